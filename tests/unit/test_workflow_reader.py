"""The reader of workflows accounts for everything: what is set, what is asked, what is sent as it stands."""

from __future__ import annotations

from typing import Any

import pytest

from reggen.workflow.graph import Graph
from reggen.workflow.reader import Reading, read_workflow

WANTED = ("positive", "negative", "seed", "width", "height")


def node(kind: str, /, *, title: str = "", **inputs: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"class_type": kind, "inputs": inputs}
    return made | {"_meta": {"title": title}} if title else made


def encoder(text: Any, clip: str = "4", **more: Any) -> dict[str, Any]:
    return node("CLIPTextEncode", text=text, clip=[clip, 1], **more)


def sampler(**changes: Any) -> dict[str, Any]:
    inputs: dict[str, Any] = {
        "seed": 1, "steps": 4, "cfg": 7, "sampler_name": "euler", "scheduler": "normal", "denoise": 1,
        "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0],
    }  # fmt: skip
    return node("KSampler", **inputs | changes)


CLASSIC: Graph = {
    "3": sampler(),
    "4": node("CheckpointLoaderSimple", ckpt_name="x.safetensors"),
    "5": node("EmptyLatentImage", width=64, height=64, batch_size=1),
    "6": encoder("OWN positive"),
    "7": encoder("OWN negative"),
    "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
    "9": node("SaveImage", images=["8", 0], filename_prefix="ComfyUI"),
}


def read(graph: Graph, named: dict[str, Any] | None = None, wanted: tuple[str, ...] = WANTED) -> Reading:
    return read_workflow(graph, named or {}, wanted)


def bound(reading: Reading, name: str) -> list[str]:
    return [str(one) for one in reading.bindings.get(name, ())]


def asked(reading: Reading) -> list[str]:
    return [problem.key.rpartition(".")[2] for problem in reading.problems]


def told(reading: Reading) -> list[str]:
    return [str(one.binding) for one in reading.account.also_sent]


def positive(text_node: dict[str, Any], **more: dict[str, Any]) -> Graph:
    """The classic graph, whose positive text comes from node 26."""
    return (
        CLASSIC | {"6": encoder(["26", 0]), "26": text_node} | {key.removeprefix("n"): one for key, one in more.items()}
    )


ONE_TEXT = {
    "a primitive": (positive(node("PrimitiveStringMultiline", value="OWN cat")), ["26.value"]),
    "a text node of WAS": (positive(node("Text Multiline", text="OWN cat")), ["26.text"]),
    "a wildcard processor": (
        positive(node("ImpactWildcardProcessor", wildcard_text="OWN", populated_text="OWN", mode="populate", seed=7)),
        ["26.wildcard_text", "26.populated_text"],
    ),
    "a text that is shown on its way": (
        positive(
            node("ShowText|pysssss", text=["27", 0], text_0="OWN, shown last"), n27=node("PrimitiveString", value="OWN")
        ),
        ["27.value"],
    ),
    "a switch with a dead branch": (
        positive(
            node("ComfySwitchNode", switch=["30", 0], on_true=["27", 0], on_false=["28", 0]),
            n27=node("PrimitiveString", value="OWN dead"),
            n28=node("PrimitiveString", value="OWN live"),
            n30=node("PrimitiveBoolean", value=False),
        ),
        ["28.value"],
    ),
    "a switch by number": (
        positive(
            node("ImpactSwitch", select=2, input1=["27", 0], input2=["28", 0]),
            n27=node("PrimitiveString", value="OWN dead"),
            n28=node("PrimitiveString", value="OWN live"),
        ),
        ["28.value"],
    ),
    "a concatenation of which one part is empty": (
        positive(
            node("StringConcatenate", string_a="", string_b=["27", 0], delimiter=""), n27=node("CR Text", text="OWN")
        ),
        ["27.text"],
    ),
    "a node of dynamic prompts": (
        positive(node("DPRandomGenerator", text="OWN", seed=1, autorefresh="No")),
        ["26.text"],
    ),
    "an encoder of SDXL": (
        CLASSIC | {"6": node("CLIPTextEncodeSDXL", clip=["4", 1], text_g="OWN", text_l="OWN", width=64, height=64)},
        ["6.text_g", "6.text_l"],
    ),
    "an encoder of Flux": (
        CLASSIC | {"6": node("CLIPTextEncodeFlux", clip=["4", 1], clip_l="OWN", t5xxl="OWN", guidance=3.5)},
        ["6.clip_l", "6.t5xxl"],
    ),
    "an encoder of Lumina": (
        CLASSIC | {"6": node("CLIPTextEncodeLumina2", clip=["4", 1], system_prompt="superior", user_prompt="OWN")},
        ["6.user_prompt"],
    ),
    "a ControlNet on both sides": (
        CLASSIC
        | {
            "3": sampler(positive=["20", 0], negative=["20", 1]),
            "20": node(
                "ControlNetApplyAdvanced", positive=["6", 0], negative=["7", 0], control_net=["21", 0], image=["22", 0],
                strength=1.0,
            ),
            "21": node("ControlNetLoader", control_net_name="pose.safetensors"),
            "22": node("LoadImage", image="pose.png"),
        },
        ["6.text"],
    ),
    "a ControlNet whose outputs are crossed": (
        CLASSIC
        | {
            "3": sampler(positive=["20", 1], negative=["20", 0]),
            "20": node(
                "ControlNetApplyAdvanced", positive=["7", 0], negative=["6", 0], control_net=["21", 0], image=["22", 0]
            ),
            "21": node("ControlNetLoader", control_net_name="pose.safetensors"),
            "22": node("LoadImage", image="pose.png"),
        },
        ["6.text"],
    ),
    "an InstantID beside the model": (
        CLASSIC
        | {
            "3": sampler(model=["20", 0], positive=["20", 1], negative=["20", 2]),
            "20": node(
                "ApplyInstantID", model=["4", 0], positive=["6", 0], negative=["7", 0], image=["22", 0], weight=0.8
            ),
            "22": node("LoadImage", image="face.png"),
        },
        ["6.text"],
    ),
    "a LoRA box with a text": (
        CLASSIC
        | {
            "3": sampler(model=["20", 0]),
            "6": encoder("OWN positive", clip="20"),
            "20": node("Lora Loader (LoraManager)", text="<lora:detail:0.5>", model=["4", 0], clip=["4", 1]),
        },
        ["6.text"],
    ),
    "a pipe": (
        {
            **{key: CLASSIC[key] for key in ("4", "5", "6", "7", "9")},
            "20": node(
                "ToBasicPipe", model=["4", 0], clip=["4", 1], vae=["4", 2], positive=["6", 0], negative=["7", 0]
            ),
            "3": node(
                "ImpactKSamplerBasicPipe", basic_pipe=["20", 0], seed=1, steps=4, cfg=7.0, sampler_name="euler",
                scheduler="normal", latent_image=["5", 0], denoise=1.0,
            ),
            "8": node("VAEDecode", samples=["3", 1], vae=["3", 2]),
        },
        ["6.text"],
    ),
    "a loader with texts of its own": (
        {
            "4": node(
                "Efficient Loader", ckpt_name="x.safetensors", vae_name="Baked VAE", clip_skip=-1, lora_name="None",
                positive="OWN positive", negative="OWN negative", token_normalization="none",
                weight_interpretation="comfy", empty_latent_width=64, empty_latent_height=64, batch_size=1,
            ),
            "3": node(
                "KSampler (Efficient)", seed=1, steps=4, cfg=7.0, sampler_name="euler", scheduler="normal", denoise=1.0,
                preview_method="auto", vae_decode="true", model=["4", 0], positive=["4", 1], negative=["4", 2],
                latent_image=["4", 3], optional_vae=["4", 4],
            ),
            "9": node("SaveImage", images=["3", 5], filename_prefix="ComfyUI"),
        },
        ["4.positive"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("graph", "inputs"), ONE_TEXT.values(), ids=ONE_TEXT)
def test_one_text_is_bound_wherever_it_stands(graph: Graph, inputs: list[str]) -> None:
    """A prompt that comes from a single literal is set there, however many nodes lie between; nothing is asked."""
    reading = read(graph)
    assert bound(reading, "positive") == inputs
    assert asked(reading) == []


SEVERAL = {
    "a concatenation": (
        positive(
            node("StringConcatenate", string_a="masterpiece", string_b=["27", 0], delimiter=", "),
            n27=node("PrimitiveString", title="Prompt", value="OWN cat"),
        ),
        ["26.string_a", "27.value", "6.text"],
    ),
    "a replacement": (
        positive(
            node("StringReplace", string="a photo of {x}", find="{x}", replace=["27", 0]),
            n27=node("PrimitiveString", value="OWN cat"),
        ),
        ["26.string", "27.value", "6.text"],
    ),
    "a language model": (
        positive(node("TextGenerate", prompt=["27", 0], clip=["4", 1]), n27=node("PrimitiveString", value="OWN cat")),
        ["27.value", "6.text"],
    ),
    "a styler": (
        positive(node("SDXLPromptStyler", text_positive="OWN cat", text_negative="OWN bad", style="sai-anime")),
        ["26.text_positive", "6.text"],
    ),
    "combined conditionings": (
        CLASSIC
        | {
            "3": sampler(positive=["20", 0]),
            "20": node("ConditioningCombine", conditioning_1=["6", 0], conditioning_2=["21", 0]),
            "21": encoder("OWN subject"),
        },
        ["6.text", "21.text"],
    ),
    "regions": (
        CLASSIC
        | {
            "3": sampler(positive=["20", 0]),
            "20": node("ConditioningConcat", conditioning_to=["22", 0], conditioning_from=["21", 0]),
            "22": node("ConditioningSetArea", conditioning=["6", 0], width=64, height=64, x=0, y=0, strength=1.0),
            "21": encoder("OWN subject"),
        },
        ["6.text", "21.text"],
    ),
    "two texts of one guider": (
        {
            **{key: CLASSIC[key] for key in ("4", "5", "6", "7", "9")},
            "3": node(
                "SamplerCustomAdvanced",
                noise=["12", 0], guider=["11", 0], sampler=["13", 0], sigmas=["14", 0], latent_image=["5", 0],
            ),
            "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
            "11": node(
                "DualCFGGuider", model=["4", 0], cond1=["6", 0], cond2=["21", 0], negative=["7", 0], cfg_conds=5.0
            ),
            "12": node("RandomNoise", noise_seed=1),
            "13": node("KSamplerSelect", sampler_name="euler"),
            "14": node("BasicScheduler", model=["4", 0], scheduler="normal", steps=4, denoise=1.0),
            "21": encoder("OWN subject"),
        },
        ["6.text", "21.text"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("graph", "candidates"), SEVERAL.values(), ids=SEVERAL)
def test_several_texts_are_a_question_with_every_candidate(graph: Graph, candidates: list[str]) -> None:
    """Nothing is guessed: each literal is named as it is to be pasted, and the input that replaces the join."""
    reading = read(graph)
    assert asked(reading) == ["positive"]
    assert bound(reading, "positive") == []
    for one in candidates:
        assert f'positive = "{one}"' in reading.problems[0].hint
    assert '"7.text"' not in reading.problems[0].hint  # never a node of the other side


@pytest.mark.parametrize(("graph", "candidates"), SEVERAL.values(), ids=SEVERAL)
def test_each_answer_to_the_question_is_taken_and_the_rest_is_told(graph: Graph, candidates: list[str]) -> None:
    """A pasted candidate settles it; texts that are still sent stand in the account, replaced ones do not."""
    for one in candidates:
        reading = read(graph, {"positive": one})
        assert asked(reading) == []
        assert bound(reading, "positive") == [one]
        assert one not in told(reading)
        if one == "6.text" and len(candidates) == 3:
            assert told(reading) == []
        elif len(candidates) == 3 or "21.text" in candidates:
            assert told(reading) == [
                other for other in candidates if other not in {one, "6.text" if len(candidates) == 3 else ""}
            ]


def test_bindings_take_lists() -> None:
    """One name sets several inputs."""
    graph, _ = SEVERAL["combined conditionings"]
    reading = read(graph, {"positive": ["6.text", "21.text"]})
    assert bound(reading, "positive") == ["6.text", "21.text"]
    assert told(reading) == []


def test_each_sampler_has_a_chain_of_its_own() -> None:
    """A guider before a sampler, a base before a refiner: the texts and seeds of all of them are set."""
    graph = CLASSIC | {
        "3": sampler(latent_image=["15", 0]),
        "10": encoder("OWN flux"),
        "11": node("BasicGuider", model=["4", 0], conditioning=["10", 0]),
        "12": node("RandomNoise", noise_seed=1),
        "13": node("KSamplerSelect", sampler_name="euler"),
        "14": node("BasicScheduler", model=["4", 0], scheduler="normal", steps=4, denoise=1.0),
        "15": node(
            "SamplerCustomAdvanced",
            noise=["12", 0], guider=["11", 0], sampler=["13", 0], sigmas=["14", 0], latent_image=["5", 0],
        ),
    }  # fmt: skip
    reading = read(graph)
    assert bound(reading, "positive") == ["6.text", "10.text"]
    assert sorted(bound(reading, "seed")) == ["12.noise_seed", "3.seed"]
    assert (bound(reading, "width"), asked(reading), told(reading)) == (["5.width"], [], [])


def test_a_detailer_s_own_text_is_told() -> None:
    """It reaches the picture, and no prompt of the job replaces it."""
    graph = CLASSIC | {
        "9": node("SaveImage", images=["32", 0], filename_prefix="x"),
        "32": node(
            "FaceDetailer", image=["8", 0], model=["4", 0], clip=["4", 1], vae=["4", 2], positive=["6", 0],
            negative=["7", 0], seed=8, steps=20, cfg=5, wildcard="spyke face", bbox_detector=["35", 0],
        ),
        "35": node("UltralyticsDetectorProvider", model_name="bbox/face_yolov8m.pt"),
    }  # fmt: skip
    reading = read(graph)
    assert told(reading) == ["32.wildcard"]
    assert sorted(bound(reading, "seed")) == ["3.seed", "32.seed"]
    assert bound(reading, "cfg") == ["3.cfg"]


@pytest.mark.parametrize("wanted", [("positive", "seed"), WANTED], ids=["no negative", "a negative"])
def test_a_negative_text_that_the_job_does_not_set_is_told_as_one(wanted: tuple[str, ...]) -> None:
    """It is sent; the guard may allow there what it forbids in the positive prompt."""
    reading = read(CLASSIC, wanted=wanted)
    sent = [(str(one.binding), one.negative) for one in reading.account.also_sent]
    assert sent == ([] if "negative" in wanted else [("7.text", True)])


def test_a_zeroed_negative_is_no_question() -> None:
    """It has no effect, which the account says."""
    zeroed = CLASSIC | {"7": node("ConditioningZeroOut", conditioning=["6", 0])}
    reading = read(zeroed)
    assert (bound(reading, "negative"), asked(reading), reading.account.negative) == ([], [], "zeroed")


SIZES = {
    "literals": (CLASSIC, ["5.width"], ["5.height"]),
    "primitives": (
        CLASSIC
        | {
            "5": node("EmptyLatentImage", width=["50", 0], height=["51", 0], batch_size=1),
            "50": node("PrimitiveInt", value=64),
            "51": node("PrimitiveInt", value=64),
        },
        ["50.value"],
        ["51.value"],
    ),
    "one primitive for both sides": (
        CLASSIC
        | {
            "5": node("EmptyLatentImage", width=["50", 0], height=["50", 0], batch_size=1),
            "50": node("PrimitiveInt", value=64),
        },
        ["5.width"],
        ["5.height"],
    ),
    "a selector whose preset overrides its numbers": (
        CLASSIC
        | {
            "5": node("EmptyLatentImage", width=["50", 0], height=["50", 1], batch_size=["50", 4]),
            "50": node(
                "CR Aspect Ratio", width=1024, height=1024, aspect_ratio="SDXL - 1:1 square 1024x1024", batch_size=1
            ),
        },
        ["5.width"],
        ["5.height"],
    ),
    "a picture's size": (
        CLASSIC
        | {
            "5": node("EmptyLatentImage", width=["50", 0], height=["50", 1], batch_size=1),
            "50": node("GetImageSize", image=["51", 0]),
            "51": node("LoadImage", image="x.png"),
        },
        ["5.width"],
        ["5.height"],
    ),
    "an equal pair on a model node": (
        CLASSIC
        | {
            "3": sampler(model=["30", 0]),
            "30": node("ModelSamplingFlux", max_shift=1.15, base_shift=0.5, width=64, height=64, model=["4", 0]),
        },
        ["5.width", "30.width"],
        ["5.height", "30.height"],
    ),
    "another pair on an encoder": (
        CLASSIC
        | {
            "6": node(
                "CLIPTextEncodeSDXL", clip=["4", 1], text_g="OWN", text_l="OWN", width=4096, height=4096,
                target_width=64, target_height=64, crop_w=0, crop_h=0,
            )
        },
        ["5.width", "6.target_width"],
        ["5.height", "6.target_height"],
    ),
    "an equal pair on a scaler": (
        CLASSIC
        | {
            "9": node("SaveImage", images=["60", 0], filename_prefix="x"),
            "60": node("ImageScale", image=["8", 0], upscale_method="lanczos", width=64, height=64, crop="disabled"),
        },
        ["5.width"],
        ["5.height"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("graph", "widths", "heights"), SIZES.values(), ids=SIZES)
def test_the_first_latent_is_sized_with_what_equals_it(graph: Graph, widths: list[str], heights: list[str]) -> None:
    """Its literals, the single numbers behind its links, or the links replaced; a scaler keeps its own."""
    reading = read(graph)
    assert (bound(reading, "width"), bound(reading, "height"), asked(reading)) == (widths, heights, [])


def test_a_number_that_is_used_for_something_else_is_not_changed() -> None:
    """One PrimitiveInt for seed and steps: the seed is set on the sampler."""
    graph = CLASSIC | {"3": sampler(seed=["30", 0], steps=["30", 0]), "30": node("PrimitiveInt", value=20)}
    assert bound(read(graph), "seed") == ["3.seed"]


SAVERS = {
    "two passes": (
        CLASSIC
        | {
            "40": node("LatentUpscale", samples=["3", 0], upscale_method="nearest-exact", width=128, height=128),
            "41": sampler(latent_image=["40", 0], denoise=0.5),
            "42": node("VAEDecode", samples=["41", 0], vae=["4", 2]),
            "43": node("SaveImage", title="Hires", images=["42", 0], filename_prefix="x"),
        },
        "output = '43' ('Hires', after 2 samplers, to 128 x 128); output = '9'",
    ),
    "another saver": (CLASSIC | {"9": node("Image Saver", images=["8", 0], filename="x")}, "output = '9'"),
    "a socket": (CLASSIC | {"9": node("SaveImageWebsocket", images=["8", 0])}, "use a SaveImage or PreviewImage"),
    "none": ({key: one for key, one in CLASSIC.items() if key not in {"8", "9"}}, "add a SaveImage"),
}


@pytest.mark.parametrize(("graph", "hint"), SAVERS.values(), ids=SAVERS)
def test_an_open_output_is_asked_with_the_last_saver_first(graph: Graph, hint: str) -> None:
    """The question can be answered by pasting; a saver that leaves nothing to fetch is refused with the reason."""
    problems = [problem for problem in read(graph).problems if "output" in problem.key or problem.key == "workflow"]
    assert len(problems) == 1
    assert hint in problems[0].hint


def test_what_leads_to_other_savers_only_is_left_out() -> None:
    """It would be computed for every picture."""
    graph, _ = SAVERS["two passes"]
    assert "43" not in read(graph, {"output": "9"}).graph
    assert "41" not in read(graph, {"output": "9"}).graph
    assert set(read(graph, {"output": "Hires"}).graph) == set(graph) - {"8", "9"}


def test_what_changes_size_and_number_is_told() -> None:
    """An upscaler after the sampler, a repeated batch, an input image, a seed of a text node."""
    graph = positive(
        node("ImpactWildcardProcessor", wildcard_text="OWN", populated_text="OWN", mode="populate", seed=7)
    ) | {
        "3": sampler(latent_image=["70", 0]),
        "70": node("RepeatLatentBatch", samples=["5", 0], amount=3),
        "9": node("SaveImage", images=["60", 0], filename_prefix="x"),
        "60": node("ImageScaleBy", image=["8", 0], upscale_method="lanczos", scale_by=2.0),
    }
    account = read(graph).account
    assert account.scaled_by == (("60", "2 times"),)
    assert account.multiplied_by == (("70", "3 times"),)
    assert [str(one) for one in account.fixed_seeds] == ["26.seed"]
    picture = CLASSIC | {
        "3": sampler(latent_image=["51", 0]),
        "50": node("LoadImage", image="my_photo.png"),
        "51": node("VAEEncode", pixels=["50", 0], vae=["4", 2]),
    }
    reading = read(picture, wanted=("positive", "seed", "width"))
    assert [str(one) for one in reading.account.input_images] == ["50.image"]
    assert asked(reading) == ["width"]


def test_cfg_is_not_guidance() -> None:
    """FluxGuidance has a name of its own; cfg stays on samplers and guiders."""
    graph = CLASSIC | {
        "3": sampler(positive=["20", 0], cfg=1),
        "20": node("FluxGuidance", conditioning=["6", 0], guidance=3.5),
    }
    reading = read(graph)
    assert (bound(reading, "cfg"), bound(reading, "guidance")) == (["3.cfg"], ["20.guidance"])


def test_a_misspelt_name_or_node_is_told_with_the_nearest() -> None:
    """The job's own bindings are held against the graph, all at once."""
    reading = read(CLASSIC, {"postive": "6.text", "seed": "3.sed", "negative": "77.text", "width": "five"})
    shown = [str(problem) for problem in reading.problems]
    assert any("did you mean 'positive'?" in one for one in shown)
    assert any("node 3 has no input 'sed'" in one for one in shown)
    assert any("no node has the id or title '77'" in one for one in shown)
    assert any("'five' names no input" in one for one in shown)


def test_an_input_that_leads_nowhere_is_no_binding() -> None:
    """What is set on a node that the output does not need would change no picture."""
    graph = CLASSIC | {"15": node("EmptyLatentImage", width=64, height=64, batch_size=1)}
    reading = read(graph, {"width": "15.width"})
    assert "15.width does not lead to the output, SaveImage (node 9)" in str(reading.problems[0])
