"""Small workflows with node packs and shapes that people use; words that are the owner's begin with OWN."""

from __future__ import annotations

from typing import Any

from reggen.workflow.graph import Graph

_SAMPLING: dict[str, Any] = {"steps": 4, "cfg": 7.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}


def _node(kind: str, /, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def _encoder(text: Any, clip: str = "4") -> dict[str, Any]:
    return _node("CLIPTextEncode", text=text, clip=[clip, 1])


def _sampler(**changes: Any) -> dict[str, Any]:
    links = {"model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}
    return _node("KSampler", **{"seed": 1, **_SAMPLING, **links, **changes})


CLASSIC: Graph = {
    "3": _sampler(),
    "4": _node("CheckpointLoaderSimple", ckpt_name="x.safetensors"),
    "5": _node("EmptyLatentImage", width=64, height=64, batch_size=1),
    "6": _encoder("OWN positive"),
    "7": _encoder("OWN negative"),
    "8": _node("VAEDecode", samples=["3", 0], vae=["4", 2]),
    "9": _node("SaveImage", images=["8", 0], filename_prefix="ComfyUI"),
}


def _classic(**changed: dict[str, Any]) -> Graph:
    """The classic graph with nodes put in; ``n26`` is the node 26."""
    return CLASSIC | {name.removeprefix("n"): node for name, node in changed.items()}


def _positive(text: dict[str, Any], output: int = 0, **more: dict[str, Any]) -> Graph:
    """The classic graph whose positive text comes from node 26."""
    return _classic(n6=_encoder(["26", output]), n26=text, **more)


def _latent(width: Any, height: Any, batch: Any = 1) -> dict[str, Any]:
    return _node("EmptyLatentImage", width=width, height=height, batch_size=batch)


def _custom(guider: dict[str, Any], **more: dict[str, Any]) -> Graph:
    """A SamplerCustomAdvanced with its five nodes."""
    return _classic(
        n3=_node(
            "SamplerCustomAdvanced", noise=["12", 0], guider=["11", 0], sampler=["13", 0], sigmas=["14", 0],
            latent_image=["5", 0],
        ),
        n11=guider,
        n12=_node("RandomNoise", noise_seed=1),
        n13=_node("KSamplerSelect", sampler_name="euler"),
        n14=_node("BasicScheduler", model=["4", 0], scheduler="normal", steps=4, denoise=1.0),
        **more,
    )  # fmt: skip


_EASY_LOADER = _node(
    "easy fullLoader", ckpt_name="x.safetensors", vae_name="Baked VAE", clip_skip=-1, lora_name="None",
    lora_model_strength=1.0, lora_clip_strength=1.0, resolution="width x height (custom)", empty_latent_width=64,
    empty_latent_height=64, positive="OWN positive", positive_token_normalization="none",
    positive_weight_interpretation="comfy", negative="OWN negative", negative_token_normalization="none",
    negative_weight_interpretation="comfy", batch_size=1, a1111_prompt_style=False,
)  # fmt: skip
_EASY: Graph = {
    "1": _EASY_LOADER,
    "2": _node("easy preSampling", pipe=["1", 0], seed=1, **_SAMPLING),
    "3": _node("easy kSampler", pipe=["2", 0], image_output="Hide", link_id=0, save_prefix="ComfyUI"),
    "9": _node("SaveImage", images=["3", 1], filename_prefix="ComfyUI"),
}
_EFFICIENT_LOADER = _node(
    "Efficient Loader", ckpt_name="x.safetensors", vae_name="Baked VAE", clip_skip=-1, lora_name="None",
    lora_stack=["20", 0], positive="OWN positive", negative="OWN negative", token_normalization="none",
    weight_interpretation="comfy", empty_latent_width=64, empty_latent_height=64, batch_size=1,
)  # fmt: skip
_EFFICIENT: Graph = {
    "4": _EFFICIENT_LOADER,
    "20": _node("LoRA Stacker", input_mode="simple", lora_count=1, lora_name_1="a.safetensors", lora_wt_1=1.0),
    "3": _node(
        "KSampler (Efficient)", seed=1, **_SAMPLING, preview_method="auto", vae_decode="true", model=["4", 0],
        positive=["4", 1], negative=["4", 2], latent_image=["4", 3], optional_vae=["4", 4],
    ),
    "9": _node("SaveImage", images=["3", 5], filename_prefix="ComfyUI"),
}  # fmt: skip
_STYLER = _node(
    "SDXLPromptStyler", text_positive="OWN cat", text_negative="OWN bad", style="sai-anime", log_prompt="No"
)
_IMPACT = _node(
    "ImpactWildcardEncode", model=["4", 0], clip=["4", 1], wildcard_text="OWN cat", populated_text="OWN cat",
    mode="populate", **{"Select to add LoRA": "Select the LoRA to add to the text"}, seed=1,
)  # fmt: skip
_UPSCALE = _node(
    "UltimateSDUpscale", image=["8", 0], model=["4", 0], positive=["6", 0], negative=["7", 0], vae=["4", 2],
    upscale_model=["31", 0], upscale_by=2.0, seed=5, **_SAMPLING, mode_type="Linear", tile_width=512, tile_height=512,
)  # fmt: skip


def _advanced(latent: list[Any], seed: Any, **changes: Any) -> dict[str, Any]:
    inputs = {"add_noise": "enable", "noise_seed": seed, **_SAMPLING, "start_at_step": 0, "end_at_step": 2}
    links = {"model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": latent}
    return _node("KSamplerAdvanced", **inputs | links | changes)


def _controlnet(positive: list[Any], negative: list[Any]) -> dict[str, Any]:
    return _node(
        "ControlNetApplyAdvanced", positive=positive, negative=negative, control_net=["21", 0], image=["22", 0],
        strength=1.0, start_percent=0.0, end_percent=1.0,
    )  # fmt: skip


_NET = {
    "n21": _node("ControlNetLoader", control_net_name="pose.safetensors"),
    "n22": _node("LoadImage", image="pose.png"),
}

PATTERNS: dict[str, Graph] = {
    # pipes and contexts
    "easy-use pipe": _EASY,
    "easy-use text nodes": _EASY
    | {
        "1": _node("easy fullLoader", **_EASY_LOADER["inputs"] | {"positive": ["7", 0], "negative": ["8", 0]}),
        "7": _node("easy positive", positive="OWN positive"),
        "8": _node("easy negative", negative="OWN negative"),
    },
    "easy-use seed node": _EASY
    | {
        "2": _node("easy preSampling", **_EASY["2"]["inputs"] | {"seed": ["30", 0]}),
        "30": _node("easy seed", seed=5),
    },
    "context of rgthree": _classic(
        n20=_node(
            "Context (rgthree)", model=["4", 0], clip=["4", 1], vae=["4", 2], positive=["6", 0], negative=["7", 0],
            latent=["5", 0], seed=["30", 0],
        ),
        n30=_node("Seed (rgthree)", seed=-1),
        n3=_sampler(model=["20", 1], positive=["20", 4], negative=["20", 5], latent_image=["20", 6], seed=["20", 8]),
    ),
    "context of rgthree with conditionings alone": _classic(
        n20=_node("Context (rgthree)", positive=["6", 0], negative=["7", 0]),
        n3=_sampler(positive=["20", 4], negative=["20", 5]),
    ),
    "two contexts of rgthree": _classic(
        n20=_node("Context (rgthree)", positive=["6", 0], negative=["7", 0], latent=["5", 0]),
        n23=_node("Context (rgthree)", base_ctx=["20", 0], model=["4", 0]),
        n3=_sampler(model=["23", 1], positive=["23", 4], negative=["23", 5], latent_image=["23", 6]),
    ),
    "basic pipe taken apart": _classic(
        n20=_node("ToBasicPipe", model=["4", 0], clip=["4", 1], vae=["4", 2], positive=["6", 0], negative=["7", 0]),
        n21=_node("FromBasicPipe", basic_pipe=["20", 0]),
        n3=_sampler(model=["21", 0], positive=["21", 3], negative=["21", 4]),
    ),
    "Efficient with a LoRA stack": _EFFICIENT,
    # stylers, wildcards, texts from elsewhere
    "styler for both sides": _classic(n6=_encoder(["26", 0]), n7=_encoder(["26", 1]), n26=_STYLER),
    "wildcard encoder": _classic(n26=_IMPACT, n3=_sampler(model=["26", 0], positive=["26", 2])),
    "text from a file": _positive(_node("Load Text File", file_path="/data/prompts.txt", dictionary_name="[filename]")),
    "text from a picture's metadata": _positive(
        _node("SDPromptReader", image="old.png", parameter_index=0), output=3
    ),
    "text of a vision model": _positive(
        _node("Florence2Run", image=["22", 0], text_input="", task="more_detailed_caption", seed=1), output=2,
        n22=_node("LoadImage", image="cat.png"),
    ),
    "language model with an instruction": _positive(
        _node("OllamaGenerate", system="OWN instruction for it", prompt="OWN cat", model="llama3", seed=3)
    ),
    "concatenation with an empty side": _positive(
        _node("StringConcatenate", string_a="", string_b=["27", 0], delimiter=", "),
        n27=_node("PrimitiveStringMultiline", value="OWN cat"),
    ),
    "text function": _positive(
        _node("StringFunction|pysssss", action="append", tidy_tags="yes", text_a="OWN a", text_b="", text_c="OWN c")
    ),
    "joined strings of KJ": _positive(
        _node("JoinStrings", string1=["27", 0], string2=["28", 0], delimiter=" "),
        n27=_node("StringConstant", string="OWN a"), n28=_node("StringConstantMultiline", string="OWN b"),
    ),
    "switch by any": _positive(
        _node("Any Switch (rgthree)", any_01=["27", 0], any_02=["28", 0]),
        n27=_node("PrimitiveString", value="OWN live"), n28=_node("PrimitiveString", value="OWN dead"),
    ),
    "text switch of CR": _positive(_node("CR Text Input Switch", Input=2, text1="OWN dead", text2="OWN live")),
    "switch of conditionings": _classic(
        n20=_node("ComfySwitchNode", switch=True, on_true=["6", 0], on_false=["21", 0]),
        n21=_encoder("OWN dead"), n3=_sampler(positive=["20", 0]),
    ),
    "one primitive on both sides": _classic(
        n26=_node("PrimitiveString", value="OWN"), n6=_encoder(["26", 0]), n7=_encoder(["26", 0])
    ),
    "one primitive in a text and a detailer": _classic(
        n26=_node("PrimitiveString", value="OWN"), n6=_encoder(["26", 0]),
        n9=_node("SaveImage", images=["32", 0], filename_prefix="x"),
        n32=_node(
            "FaceDetailer", image=["8", 0], model=["4", 0], clip=["4", 1], vae=["4", 2], positive=["6", 0],
            negative=["7", 0], seed=8, wildcard=["26", 0], **_SAMPLING,
        ),
    ),
    # conditionings that several texts make
    "averaged conditionings": _classic(
        n20=_node("ConditioningAverage", conditioning_to=["6", 0], conditioning_from=["21", 0],
                  conditioning_to_strength=0.5),
        n21=_encoder("OWN other"), n3=_sampler(positive=["20", 0]),
    ),
    "timed conditionings": _classic(
        n20=_node("ConditioningCombine", conditioning_1=["22", 0], conditioning_2=["23", 0]),
        n22=_node("ConditioningSetTimestepRange", conditioning=["6", 0], start=0.0, end=0.5),
        n23=_node("ConditioningSetTimestepRange", conditioning=["21", 0], start=0.5, end=1.0),
        n21=_encoder("OWN later"), n3=_sampler(positive=["20", 0]),
    ),
    "GLIGEN box": _classic(
        n20=_node("GLIGENTextBoxApply", conditioning_to=["6", 0], clip=["4", 1], gligen_textbox_model=["21", 0],
                  text="OWN box", width=32, height=32, x=0, y=0),
        n21=_node("GLIGENLoader", gligen_name="g.safetensors"), n3=_sampler(positive=["20", 0]),
    ),
    "unCLIP": _classic(
        n4=_node("unCLIPCheckpointLoader", ckpt_name="x.safetensors"),
        n20=_node("unCLIPConditioning", conditioning=["6", 0], clip_vision_output=["21", 0], strength=1.0,
                  noise_augmentation=0.0),
        n21=_node("CLIPVisionEncode", clip_vision=["4", 3], image=["22", 0], crop="center"),
        n22=_node("LoadImage", image="cat.png"), n3=_sampler(positive=["20", 0]),
    ),
    "style model": _classic(
        n20=_node("StyleModelApply", conditioning=["6", 0], style_model=["23", 0], clip_vision_output=["21", 0]),
        n21=_node("CLIPVisionEncode", clip_vision=["24", 0], image=["22", 0], crop="center"),
        n22=_node("LoadImage", image="cat.png"), n23=_node("StyleModelLoader", style_model_name="redux.safetensors"),
        n24=_node("CLIPVisionLoader", clip_name="sigclip.safetensors"), n3=_sampler(positive=["20", 0]),
    ),
    "ControlNet crossed": _classic(
        n20=_controlnet(["7", 0], ["6", 0]), n3=_sampler(positive=["20", 1], negative=["20", 0]), **_NET
    ),
    "two ControlNets": _classic(
        n20=_controlnet(["6", 0], ["7", 0]), n23=_controlnet(["20", 0], ["20", 1]),
        n3=_sampler(positive=["23", 0], negative=["23", 1]), **_NET,
    ),
    "regions in the model": _classic(
        n20=_node("AttentionCouplePPM", model=["4", 0], base_mask=["24", 0], cond_1=["21", 0], mask_1=["24", 0]),
        n21=_encoder("OWN region"), n24=_node("SolidMask", value=1.0, width=64, height=64),
        n3=_sampler(model=["20", 0]),
    ),
    "encoder of HunyuanDiT": _classic(n6=_node("CLIPTextEncodeHunyuanDiT", clip=["4", 1], bert="OWN", mt5xl="OWN")),
    "encoder with a parser": _classic(
        n6=_node("smZ CLIPTextEncode", clip=["4", 1], text="OWN", parser="A1111", mean_normalization=True,
                 multi_conditioning=True, use_old_emphasis_implementation=False, with_SDXL=False, text_g="", text_l="")
    ),
    "power prompt": _classic(
        n6=_node("Power Prompt (rgthree)", prompt="OWN", opt_model=["4", 0], opt_clip=["4", 1], insert_lora="CHOOSE",
                 insert_embedding="CHOOSE", insert_saved="CHOOSE")
    ),
    "encoder of Qwen edits": _classic(
        n6=_node("TextEncodeQwenImageEdit", clip=["4", 1], prompt="OWN", vae=["4", 2], image=["22", 0]),
        n22=_node("LoadImage", image="cat.png"),
    ),
    # guiders and samplers
    "two conditions of one guider": _custom(
        _node("DualCFGGuider", model=["4", 0], cond1=["6", 0], cond2=["21", 0], negative=["7", 0], cfg_conds=5.0,
              cfg_cond2_negative=2.0, style="regular"),
        n21=_encoder("OWN second"),
    ),
    "PerpNeg guider": _custom(
        _node("PerpNegGuider", model=["4", 0], positive=["6", 0], negative=["7", 0], empty_conditioning=["21", 0],
              cfg=7.0, neg_scale=1.0),
        n21=_encoder("OWN empty"),
    ),
    "PerpNeg in the model": _classic(
        n20=_node("PerpNeg", model=["4", 0], empty_conditioning=["21", 0], neg_scale=1.0), n21=_encoder("OWN empty"),
        n3=_sampler(model=["20", 0]),
    ),
    "PAG": _classic(n20=_node("PerturbedAttentionGuidance", model=["4", 0], scale=3.0), n3=_sampler(model=["20", 0])),
    "SamplerCustom": _classic(
        n3=_node("SamplerCustom", model=["4", 0], add_noise=True, noise_seed=1, cfg=7.0, positive=["6", 0],
                 negative=["7", 0], sampler=["13", 0], sigmas=["14", 0], latent_image=["5", 0]),
        n13=_node("KSamplerSelect", sampler_name="euler"),
        n14=_node("KarrasScheduler", steps=4, sigma_max=14.6, sigma_min=0.03, rho=7.0),
    ),
    "two stages": _classic(
        n10=_advanced(["5", 0], 1, return_with_leftover_noise="enable"),
        n3=_advanced(["10", 0], 0, add_noise="disable", start_at_step=2, end_at_step=9),
    ),
    "refiner": _classic(
        n10=_advanced(["5", 0], 1),
        n3=_advanced(["10", 0], 0, model=["40", 0], positive=["41", 0], negative=["42", 0]),
        n40=_node("CheckpointLoaderSimple", ckpt_name="refiner.safetensors"),
        n41=_node("CLIPTextEncodeSDXLRefiner", ascore=6.0, width=64, height=64, text="OWN positive", clip=["40", 1]),
        n42=_node("CLIPTextEncodeSDXLRefiner", ascore=2.5, width=64, height=64, text="OWN negative", clip=["40", 1]),
    ),
    "tiled upscale": _classic(
        n30=_UPSCALE, n31=_node("UpscaleModelLoader", model_name="4x.pth"),
        n9=_node("SaveImage", images=["30", 0], filename_prefix="x"),
    ),
    "second pass at a factor": _classic(
        n40=_node("LatentUpscaleBy", samples=["10", 0], upscale_method="nearest-exact", scale_by=1.5),
        n10=_sampler(), n3=_sampler(latent_image=["40", 0], seed=7),
    ),
    # numbers
    "seed of rgthree for two samplers": _classic(
        n30=_node("Seed (rgthree)", seed=-1), n10=_sampler(seed=["30", 0]),
        n3=_sampler(latent_image=["10", 0], seed=["30", 0]),
    ),
    "size by an expression": _classic(
        n5=_latent(["50", 0], ["52", 0]), n50=_node("SimpleMath+", value="a*2", a=["51", 0]),
        n51=_node("PrimitiveInt", value=32), n52=_node("PrimitiveInt", value=64),
    ),
    "size by an operation": _classic(
        n5=_latent(["50", 0], ["52", 0]), n50=_node("easy mathInt", a=["51", 0], b=2, operation="multiply"),
        n51=_node("PrimitiveInt", value=32), n52=_node("PrimitiveInt", value=64),
    ),
    "size by a preset": _classic(
        n5=_latent(["50", 0], ["50", 1], ["50", 4]),
        n50=_node("CR SDXL Aspect Ratio", width=1024, height=1024, aspect_ratio="2:3 portrait 832x1216",
                  swap_dimensions="Off", upscale_factor=1.0, batch_size=1),
    ),
    "size of a picture": _classic(
        n5=_latent(["50", 0], ["50", 1]), n50=_node("GetImageSize", image=["22", 0]),
        n22=_node("LoadImage", image="cat.png"),
    ),
    "width of a number that is used elsewhere": _classic(
        n5=_latent(["50", 0], ["51", 0]), n50=_node("PrimitiveInt", value=64), n51=_node("PrimitiveInt", value=64),
        n3=_sampler(steps=["50", 0]),
    ),
    "sides by a switch": _classic(
        n5=_latent(["50", 0], ["51", 0]),
        n50=_node("ComfySwitchNode", switch=["52", 0], on_true=["53", 0], on_false=["54", 0]),
        n51=_node("ComfySwitchNode", switch=["52", 0], on_true=["54", 0], on_false=["53", 0]),
        n52=_node("PrimitiveBoolean", value=False), n53=_node("PrimitiveInt", value=32),
        n54=_node("PrimitiveInt", value=64),
    ),
    "sampler from a selector": _classic(
        n3=_sampler(sampler_name=["60", 0], scheduler=["61", 0]), n60=_node("Sampler Selector", sampler_name="euler"),
        n61=_node("Scheduler Selector", scheduler="normal"),
    ),
    "batch repeated": _classic(
        n20=_node("RepeatLatentBatch", samples=["5", 0], amount=3), n3=_sampler(latent_image=["20", 0])
    ),
    # pictures in, words on pictures, names
    "inpainting": _classic(
        n20=_node("InpaintModelConditioning", positive=["6", 0], negative=["7", 0], vae=["4", 2], pixels=["22", 0],
                  mask=["22", 1], noise_mask=True),
        n22=_node("LoadImage", image="cat.png"),
        n3=_sampler(positive=["20", 0], negative=["20", 1], latent_image=["20", 2]),
    ),
    "words drawn on the picture": _classic(
        n20=_node("CR Overlay Text", image=["8", 0], text="OWN words", font_name="Roboto-Regular.ttf", font_size=50),
        n9=_node("SaveImage", images=["20", 0], filename_prefix="x"),
    ),
    "prefix from a text": _classic(
        n9=_node("SaveImage", images=["8", 0], filename_prefix=["26", 0]), n26=_node("PrimitiveString", value="OWN/cat")
    ),
    "power LoRA loader": _classic(
        n20=_node("Power Lora Loader (rgthree)", model=["4", 0], clip=["4", 1],
                  lora_1={"on": True, "lora": "a.safetensors", "strength": 1.0}),
        n3=_sampler(model=["20", 0]), n6=_encoder("OWN positive", "20"), n7=_encoder("OWN negative", "20"),
    ),
    "LoRA words in the model": _classic(
        n20=_node("LoraTextLoader (LoraManager)", lora_syntax="<lora:detail:0.5>", model=["4", 0], clip=["4", 1]),
        n3=_sampler(model=["20", 0]),
    ),
    "ids with colons": {
        f"12:{name}": _node(
            node["class_type"],
            **{key: [f"12:{one[0]}", one[1]] if isinstance(one, list) else one for key, one in node["inputs"].items()},
        )
        for name, node in CLASSIC.items()
    },
}  # fmt: skip
