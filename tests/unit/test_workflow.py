"""A graph as a template: where its inputs are found, what is set in them, and how missing ones are reported."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from reggen.errors import WorkflowError
from reggen.job.models import Job
from reggen.planning.plan import PromptRequest, Sample
from reggen.workflow.graph import Graph, built_in
from reggen.workflow.template import Template
from reggen.workflow.walk import Binding
from tests.preparing import plan_of, prepared_of

JOB: dict[str, Any] = {
    "dataset": {"root": "reg", "class": "person", "count": 8},
    "sampling": {"checkpoint": "job.safetensors", "seed": 7},
    "prompts": {"positive": "POSITIVE", "negative": "NEGATIVE"},
}


def node(kind: str, /, *, title: str = "", **inputs: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"class_type": kind, "inputs": inputs}
    return made | {"_meta": {"title": title}} if title else made


CLASSIC: Graph = {
    "1": node("CheckpointLoaderSimple", ckpt_name="file.safetensors"),
    "2": node("EmptyLatentImage", width=512, height=512, batch_size=1),
    "3": node("CLIPTextEncode", text="file positive", clip=["1", 1]),
    "4": node("CLIPTextEncode", text="file negative", clip=["1", 1]),
    "5": node(
        "KSampler", seed=1, steps=20, cfg=7.0, sampler_name="euler", scheduler="normal", denoise=1.0,
        model=["1", 0], positive=["3", 0], negative=["4", 0], latent_image=["2", 0],
    ),
    "8": node("VAEDecode", samples=["5", 0], vae=["1", 2]),
    "9": node("SaveImage", filename_prefix="ComfyUI", images=["8", 0]),
}  # fmt: skip

HIRES: Graph = CLASSIC | {
    "6": node("LatentUpscale", upscale_method="nearest-exact", width=1024, height=1024, samples=["5", 0]),
    "7": node(
        "KSampler", seed=2, steps=14, cfg=7.0, sampler_name="euler", scheduler="normal", denoise=0.5,
        model=["1", 0], positive=["3", 0], negative=["4", 0], latent_image=["6", 0],
    ),
    "8": node("VAEDecode", samples=["7", 0], vae=["1", 2]),
}  # fmt: skip

_SIDES: dict[str, Any] = {
    "width": 1024,
    "height": 1024,
    "crop_w": 0,
    "crop_h": 0,
    "target_width": 1024,
    "target_height": 1024,
}
SDXL: Graph = {
    "1": node("CheckpointLoaderSimple", ckpt_name="base"),
    "2": node("CheckpointLoaderSimple", ckpt_name="refiner"),
    "3": node("EmptyLatentImage", width=1024, height=1024, batch_size=1),
    "4": node("CLIPTextEncodeSDXL", **_SIDES, text_g="file", text_l="file", clip=["1", 1]),
    "5": node("CLIPTextEncodeSDXL", **_SIDES, text_g="file", text_l="file", clip=["1", 1]),
    "6": node("CLIPTextEncodeSDXLRefiner", ascore=6.0, width=1024, height=1024, text="file", clip=["2", 1]),
    "7": node("CLIPTextEncodeSDXLRefiner", ascore=2.5, width=1024, height=1024, text="file", clip=["2", 1]),
    "8": node(
        "KSamplerAdvanced", add_noise="enable", noise_seed=1, steps=25, cfg=8.0, sampler_name="euler",
        scheduler="normal", start_at_step=0, end_at_step=20,
        model=["1", 0], positive=["4", 0], negative=["5", 0], latent_image=["3", 0],
    ),
    "9": node(
        "KSamplerAdvanced", add_noise="disable", noise_seed=1, steps=25, cfg=8.0, sampler_name="euler",
        scheduler="normal", start_at_step=20, end_at_step=10000,
        model=["2", 0], positive=["6", 0], negative=["7", 0], latent_image=["8", 0],
    ),
    "10": node("VAEDecode", samples=["9", 0], vae=["2", 2]),
    "11": node("SaveImage", filename_prefix="x", images=["10", 0]),
}  # fmt: skip

FLUX: Graph = {
    "6": node("CLIPTextEncode", text="file", clip=["11", 0]),
    "8": node("VAEDecode", samples=["13", 0], vae=["10", 0]),
    "9": node("SaveImage", filename_prefix="x", images=["8", 0]),
    "10": node("VAELoader", vae_name="ae"),
    "11": node("DualCLIPLoader", clip_name1="a", clip_name2="b", type="flux"),
    "12": node("UNETLoader", unet_name="flux1-dev", weight_dtype="default"),
    "13": node(
        "SamplerCustomAdvanced",
        noise=["25", 0], guider=["22", 0], sampler=["16", 0], sigmas=["17", 0], latent_image=["27", 0],
    ),
    "16": node("KSamplerSelect", sampler_name="euler"),
    "17": node("BasicScheduler", scheduler="simple", steps=20, denoise=1.0, model=["30", 0]),
    "22": node("BasicGuider", model=["30", 0], conditioning=["26", 0]),
    "25": node("RandomNoise", noise_seed=1),
    "26": node("FluxGuidance", guidance=3.5, conditioning=["6", 0]),
    "27": node("EmptySD3LatentImage", width=1024, height=1024, batch_size=1),
    "30": node("ModelSamplingFlux", max_shift=1.15, base_shift=0.5, width=1024, height=1024, model=["12", 0]),
}  # fmt: skip

ONE_PROMPT: Graph = {
    "1": node("UNETLoader", unet_name="flux1-dev"),
    "2": node("CLIPTextEncodeFlux", clip_l="file", t5xxl="file", guidance=3.5, clip=["3", 0]),
    "3": node("DualCLIPLoader", clip_name1="a", clip_name2="b", type="flux"),
    "4": node("ConditioningZeroOut", conditioning=["2", 0]),
    "5": node(
        "KSampler", seed=1, steps=20, cfg=1.0, sampler_name="euler", scheduler="simple", denoise=1.0,
        model=["1", 0], positive=["2", 0], negative=["4", 0], latent_image=["6", 0],
    ),
    "6": node("EmptySD3LatentImage", width=1024, height=1024, batch_size=1),
    "7": node("VAEDecode", samples=["5", 0], vae=["8", 0]),
    "8": node("VAELoader", vae_name="ae"),
    "9": node("SaveImage", filename_prefix="x", images=["7", 0]),
}  # fmt: skip


def changed(graph: Graph, **nodes: dict[str, Any]) -> Graph:
    """The graph with some inputs changed: ``n5={"seed": ["30", 0]}``."""
    made = copy.deepcopy(graph)
    for name, inputs in nodes.items():
        made[name.removeprefix("n")]["inputs"].update(inputs)
    return made


@pytest.fixture
def made(tmp_path: Path) -> Any:
    """Makes the template of a graph, under a job."""

    def make(graph: Any, *, bindings: dict[str, str] | None = None, **sections: Any) -> Template:
        file = tmp_path / "graph.json"
        file.write_text(json.dumps(graph), encoding="utf-8")
        return prepared_of(a_job(workflow={"file": str(file), "bindings": bindings or {}}, **sections)).template

    return make


@pytest.fixture
def problems(made: Any) -> Any:
    """The problems of a graph under a job, as they are reported."""

    def find(graph: Any, **options: Any) -> list[str]:
        with pytest.raises(WorkflowError) as caught:
            made(graph, **options)
        assert "graph.json (workflow.file of test.toml)" in caught.value.file
        return [str(problem) for problem in caught.value.problems]

    return find


def a_job(**sections: Any) -> Job:
    return Job.model_validate(JOB | {name: section for name, section in sections.items() if section is not None})


def a_request(job: Job | None = None, index: int = 0) -> PromptRequest:
    return PromptRequest((plan_of(job or a_job()).sample(index),))


def bound(made: Template, name: str) -> list[str]:
    return [f"{binding.node}.{binding.input}" for binding in made.bindings.get(name, ())]


def texts(graph: Graph, *nodes: str) -> set[str]:
    keys = ("text", "text_g", "text_l", "t5xxl", "clip_l", "clip_g")
    return {graph[name]["inputs"][key] for name in nodes for key in keys if key in graph[name]["inputs"]}


# ---- the built-in graph


def test_the_built_in_graph_is_the_classic_one_with_everything_set():
    """Without a workflow the job's own values fill the text-to-image graph that everybody knows."""
    job = a_job(
        sampling={
            "checkpoint": "c", "width": 640, "height": 768, "steps": 30, "cfg": 5.5,
            "sampler": "heun", "scheduler": "karras", "seed": 7,
        }
    )  # fmt: skip
    graph = prepared_of(job).template.bind(a_request(job, 2), "run/reg_003")
    assert graph == {
        "4": node("CheckpointLoaderSimple", ckpt_name="c"),
        "5": node("EmptyLatentImage", width=640, height=768, batch_size=1),
        "6": node("CLIPTextEncode", text="POSITIVE", clip=["4", 1]),
        "7": node("CLIPTextEncode", text="NEGATIVE", clip=["4", 1]),
        "3": node(
            "KSampler", seed=9, steps=30, cfg=5.5, sampler_name="heun", scheduler="karras", denoise=1.0,
            model=["4", 0], positive=["6", 0], negative=["7", 0], latent_image=["5", 0],
        ),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", images=["8", 0], filename_prefix="run/reg_003"),
    }  # fmt: skip


def test_what_the_job_leaves_out_keeps_the_built_in_default():
    """Steps, cfg, sampler, scheduler, size and an empty negative prompt have defaults."""
    job = a_job(prompts={"positive": "POSITIVE"})
    graph = prepared_of(job).template.bind(a_request(job), "x")
    sampler = graph["3"]["inputs"]
    assert [sampler[key] for key in ("steps", "cfg", "sampler_name", "scheduler")] == [
        20, 7.0, "euler_ancestral", "normal",
    ]  # fmt: skip
    assert (graph["7"]["inputs"]["text"], graph["5"]["inputs"]["width"]) == ("", 512)


def test_binding_leaves_the_template_as_it_is():
    """Each request gets a graph of its own."""
    template = prepared_of(a_job()).template
    before = copy.deepcopy(template.graph)
    first, second = (template.bind(a_request(index=index), f"p{index}") for index in (0, 1))
    first["3"]["inputs"]["steps"] = 999
    assert template.graph == before
    assert second["3"]["inputs"]["steps"] == 20
    assert (first["3"]["inputs"]["seed"], second["3"]["inputs"]["seed"]) == (7, 8)


def test_a_batch_is_asked_for_whole():
    """A request of a batch makes the whole batch, even where less is missing."""
    job = a_job(sampling={"checkpoint": "c", "seed": 7, "batch": 4})
    plan = plan_of(job)
    graph = prepared_of(job).template.bind(PromptRequest((plan.sample(5), plan.sample(7))), "x")
    assert (graph["5"]["inputs"]["batch_size"], graph["3"]["inputs"]["seed"]) == (4, 11)


# ---- a graph of one's own


def test_a_graph_of_ones_own_is_filled_like_the_built_in(made: Any):
    """Bindings are found from the sampler upwards, whatever the ids."""
    graph = made(CLASSIC, sampling=JOB["sampling"] | {"width": 640, "height": 768, "steps": 9})
    assert {name: bound(graph, name) for name in graph.bindings} == {
        "seed": ["5.seed"],
        "checkpoint": ["1.ckpt_name"],
        "steps": ["5.steps"],
        "positive": ["3.text"],
        "negative": ["4.text"],
        "width": ["2.width"],
        "height": ["2.height"],
        "prefix": ["9.filename_prefix"],
        "batch": ["2.batch_size"],
        "sampler": ["5.sampler_name"],
        "scheduler": ["5.scheduler"],
        "cfg": ["5.cfg"],
    }
    assert graph.output == "9"


def test_what_the_job_does_not_say_is_the_graphs_own(made: Any):
    """Prompts, size and checkpoint that the job leaves out stay as they are in the file."""
    request = PromptRequest((Sample(0, 0, "reg_001", None, None, seed=7),))
    graph = made(CLASSIC, sampling={}, prompts={}).bind(request, "x")
    assert texts(graph, "3") == {"file positive"}
    assert texts(graph, "4") == {"file negative"}
    assert graph["1"]["inputs"]["ckpt_name"] == "file.safetensors"
    assert graph["2"]["inputs"] == {"width": 512, "height": 512, "batch_size": 1}


def test_bindings_may_be_named_by_id_or_title(made: Any):
    """What the job names is taken, by the node's id or by its title, and before what would have been found."""
    graph = changed(CLASSIC) | {
        "20": node("PrimitiveString", title="What to paint", value="file"),
        "21": node("PrimitiveInt", title="v1.5 seed", value=3),
    }
    graph["3"]["inputs"]["text"] = ["20", 0]
    graph["5"]["inputs"]["seed"] = ["21", 0]
    named = {"positive": "What to paint.value", "seed": "v1.5 seed.value", "steps": "5.steps", "output": "9"}
    found = made(graph, bindings=named)
    assert (bound(found, "positive"), bound(found, "seed")) == (["20.value"], ["21.value"])
    bound_graph = found.bind(a_request(), "x")
    assert (bound_graph["20"]["inputs"]["value"], bound_graph["21"]["inputs"]["value"]) == ("POSITIVE", 7)


def test_a_named_binding_may_replace_a_link(made: Any):
    """Naming an input that is linked puts the value in the link's place."""
    graph = changed(CLASSIC, n5={"seed": ["30", 0]}) | {"30": node("PrimitiveInt", value=3)}
    assert made(graph, bindings={"seed": "5.seed"}).bind(a_request(), "x")["5"]["inputs"]["seed"] == 7


def test_titles_settle_what_the_graph_leaves_open(made: Any):
    """Where no sampler says which text is which, titles do."""
    graph = copy.deepcopy(FLUX)
    graph["6"]["_meta"] = {"title": "Positive Prompt"}
    graph["7"] = node("CLIPTextEncode", title="negative prompt", text="file", clip=["11", 0])
    graph["22"] = node("DualCFGGuider", model=["30", 0], cond1=["26", 0], negative_cond=["7", 0])
    found = made(graph)
    assert (bound(found, "positive"), bound(found, "negative")) == (["6.text"], ["7.text"])


def test_a_text_behind_conditioning_nodes_is_found(made: Any):
    """Between sampler and text there may be other nodes."""
    graph = changed(CLASSIC, n5={"positive": ["20", 0]}) | {
        "20": node("ConditioningSetTimestepRange", conditioning=["21", 0], start=0.0, end=1.0),
        "21": node("FluxGuidance", conditioning=["3", 0], guidance=3.5),
    }
    assert bound(made(graph), "positive") == ["3.text"]


def test_a_posted_body_is_taken_for_its_graph(made: Any):
    """A file that holds {"prompt": graph} is as good as the graph."""
    assert made({"prompt": CLASSIC, "client_id": "x"}).graph == CLASSIC


def test_previews_are_taken_when_nothing_is_saved(made: Any):
    """A graph that only previews is fine: its pictures are fetched before they vanish."""
    graph = copy.deepcopy(CLASSIC)
    graph["9"] = node("PreviewImage", images=["8", 0])
    found = made(graph)
    assert (found.output, "prefix" in found.bindings) == ("9", False)


def test_saved_pictures_go_before_previews(made: Any):
    """With one SaveImage, any number of previews leaves nothing open."""
    graph = CLASSIC | {"7": node("PreviewImage", images=["8", 0]), "6": node("PreviewImage", images=["8", 0])}
    assert made(graph).output == "9"


def test_nodes_that_lead_to_no_picture_are_left_out(made: Any):
    """ComfyUI never validates what leads to no output; it is not sent, nor asked for in the preflight."""
    graph = CLASSIC | {
        "50": node("LoraLoader", lora_name="gone", model=["1", 0]),
        "51": node("Note", text="negative"),
        "52": node("KSampler", seed=1, positive=["51", 0]),
    }
    found = made(graph)
    assert found.graph == CLASSIC
    assert found.classes == {
        "CheckpointLoaderSimple": ["1"],
        "EmptyLatentImage": ["2"],
        "CLIPTextEncode": ["3", "4"],
        "KSampler": ["5"],
        "VAEDecode": ["8"],
        "SaveImage": ["9"],
    }


def test_a_node_without_inputs_gets_empty_ones(made: Any):
    """ComfyUI's worker dies of a node without inputs: it is never sent one."""
    graph = changed(CLASSIC, n8={"vae": ["20", 0]}) | {"20": {"class_type": "DefaultVAE"}}
    assert made(graph).graph["20"] == {"class_type": "DefaultVAE", "inputs": {}}


def test_cycles_and_links_to_nowhere_are_left_to_the_server(made: Any):
    """A broken graph is walked once and refused by the server in its own words, not by endless search."""
    graph = changed(CLASSIC, n3={"clip": ["3", 0]}, n8={"vae": ["99", 0]})
    assert bound(made(graph), "positive") == ["3.text"]


# ---- the kinds of graph people have


def test_two_samplers_share_the_seed_and_the_size_is_the_first_ones(made: Any):
    """Hires fix: both passes get the seed, the latent of the first pass the size, the upscale stays."""
    found = made(HIRES, sampling=JOB["sampling"] | {"width": 640, "height": 768})
    assert sorted(bound(found, "seed")) == ["5.seed", "7.seed"]
    assert (bound(found, "width"), bound(found, "height")) == (["2.width"], ["2.height"])
    assert (bound(found, "positive"), bound(found, "negative")) == (["3.text"], ["4.text"])


def test_two_samplers_share_what_the_job_says_of_sampling(made: Any):
    """Hires fix: cfg, sampler and scheduler hold for both passes; one that differs would be no longer this job's."""
    found = made(HIRES, sampling=JOB["sampling"] | {"cfg": 4.0, "sampler": "heun", "scheduler": "karras"})
    graph = found.bind(a_request(), "x")
    for name in ("5", "7"):
        inputs = graph[name]["inputs"]
        assert (inputs["cfg"], inputs["sampler_name"], inputs["scheduler"]) == (4.0, "heun", "karras")


def test_base_and_refiner_share_seed_and_size(made: Any):
    """SDXL: both samplers get the seed; the size is the latent's, and goes to the pairs that equal it."""
    found = made(SDXL, sampling={"seed": 7, "width": 832, "height": 1216})
    assert sorted(bound(found, "seed")) == ["8.noise_seed", "9.noise_seed"]
    assert bound(found, "width")[0] == "3.width"
    assert {"4.width", "4.target_width", "6.width"} <= set(bound(found, "width"))


def test_base_and_refiner_get_the_same_prompts(made: Any):
    """SDXL: the prompts go to the base's encoders, both texts of each, and to the refiner's."""
    graph = made(SDXL, sampling={"seed": 7}).bind(a_request(), "x")
    assert texts(graph, "4", "6") == {"POSITIVE"}
    assert texts(graph, "5", "7") == {"NEGATIVE"}


def test_the_checkpoint_is_the_bases(made: Any):
    """SDXL: the job's checkpoint is the model that begins the picture; the refiner stays."""
    graph = made(SDXL).bind(a_request(), "x")
    assert (graph["1"]["inputs"]["ckpt_name"], graph["2"]["inputs"]["ckpt_name"]) == ("job.safetensors", "refiner")


def test_the_steps_of_base_and_refiner_stay_together(made: Any):
    """SDXL: steps count for both samplers, which share one schedule."""
    graph = made(SDXL, sampling={"seed": 7, "steps": 40}).bind(a_request(), "x")
    assert (graph["8"]["inputs"]["steps"], graph["9"]["inputs"]["steps"]) == (40, 40)


def test_a_flux_graph_is_found_without_a_classic_sampler(made: Any):
    """Flux: noise, guidance, sampler, scheduler and model stand in nodes of their own; there is one prompt."""
    sampling = {"checkpoint": "c", "steps": 28, "guidance": 3.0, "sampler": "heun", "scheduler": "beta", "seed": 7}
    found = made(FLUX, sampling=sampling, prompts={"positive": "POSITIVE"})
    assert {name: bound(found, name) for name in found.bindings if name not in {"prefix", "batch"}} == {
        "seed": ["25.noise_seed"],
        "checkpoint": ["12.unet_name"],
        "steps": ["17.steps"],
        "guidance": ["26.guidance"],
        "sampler": ["16.sampler_name"],
        "scheduler": ["17.scheduler"],
        "positive": ["6.text"],
    }


def test_the_size_of_a_flux_graph_is_its_latents(made: Any):
    """Flux: the size goes to the empty latent; ModelSamplingFlux may follow, but never instead."""
    sampling = {"checkpoint": "c", "width": 832, "height": 1216, "seed": 7}
    found = made(FLUX, sampling=sampling, prompts={"positive": "POSITIVE"})
    assert "27.width" in bound(found, "width")
    assert "27.height" in bound(found, "height")


def test_the_size_is_the_latents_though_an_encoder_lies_farther_up(made: Any):
    """An SDXL encoder behind other conditioning nodes has a width, too, but it is not the picture's."""
    graph = changed(CLASSIC, n5={"positive": ["20", 0]}) | {
        "20": node("ConditioningSetTimestepRange", conditioning=["21", 0], start=0.0, end=1.0),
        "21": node("CLIPTextEncodeSDXL", **_SIDES, text_g="file", text_l="file", clip=["1", 1]),
    }
    found = made(graph, sampling=JOB["sampling"] | {"width": 832, "height": 1216})
    assert "2.width" in bound(found, "width")


def test_both_texts_of_a_flux_encoder_are_set(made: Any):
    """Flux: CLIPTextEncodeFlux has a text for each encoder; both are the prompt."""
    graph = made(ONE_PROMPT, prompts={"positive": "POSITIVE"}).bind(a_request(), "x")
    assert graph["2"]["inputs"] == {"clip_l": "POSITIVE", "t5xxl": "POSITIVE", "guidance": 3.5, "clip": ["3", 0]}


def test_all_three_texts_of_an_sd3_encoder_are_set(made: Any):
    """SD3: CLIPTextEncodeSD3 has three texts, and none may keep the file's words."""
    graph = copy.deepcopy(ONE_PROMPT)
    graph["2"] = node("CLIPTextEncodeSD3", clip_l="file", clip_g="file", t5xxl="file", clip=["3", 0])
    graph["4"] = node("CLIPTextEncodeSD3", clip_l="file", clip_g="file", t5xxl="file", clip=["3", 0])
    template = made(graph).bind(a_request(), "x")
    assert texts(template, "2") == {"POSITIVE"}
    assert texts(template, "4") == {"NEGATIVE"}


def test_a_control_net_keeps_positive_and_negative_apart(made: Any):
    """A node that passes both conditionings through is followed on the side that is asked for."""
    graph = changed(CLASSIC, n5={"positive": ["20", 0], "negative": ["20", 1]}) | {
        "20": node(
            "ControlNetApplyAdvanced", strength=1.0, positive=["3", 0], negative=["4", 0],
            control_net=["21", 0], image=["22", 0],
        ),
        "21": node("ControlNetLoader", control_net_name="c"),
        "22": node("LoadImage", image="i"),
    }  # fmt: skip
    template = made(graph).bind(a_request(), "x")
    assert (texts(template, "3"), texts(template, "4")) == ({"POSITIVE"}, {"NEGATIVE"})


def test_one_text_is_never_both_prompts(problems: Any):
    """When positive and negative would go into one input, the job hears of it instead of painting the negative."""
    reported = problems(changed(CLASSIC, n5={"negative": ["3", 0]}))
    assert len(reported) == 1
    assert reported[0].startswith("workflow.bindings.negative: ")


def test_a_zeroed_negative_takes_no_text(made: Any):
    """The negative prompt has no effect there: it is set nowhere, and the positive one stays the positive one."""
    found = made(ONE_PROMPT)
    assert (bound(found, "negative"), found.account.negative) == ([], "zeroed")
    assert bound(found, "positive") == ["2.clip_l", "2.t5xxl"]


def test_a_positive_that_is_linked_is_set_at_its_literal(made: Any):
    """When the sampler's positive is written elsewhere, it is found there, and the negative's stays the negative's."""
    found = made(changed(CLASSIC, n3={"text": ["31", 0]}) | {"31": node("PrimitiveString", value="file")})
    assert (bound(found, "positive"), bound(found, "negative")) == (["31.value"], ["4.text"])


def test_a_guider_with_two_prompts_is_understood(made: Any):
    """CFGGuider has positive and negative like a sampler; the seed is somewhere else."""
    graph = FLUX | {
        "22": node("CFGGuider", cfg=3.0, model=["30", 0], positive=["6", 0], negative=["7", 0]),
        "7": node("CLIPTextEncode", text="file", clip=["11", 0]),
    }
    found = made(graph)
    assert (bound(found, "positive"), bound(found, "negative")) == (["6.text"], ["7.text"])


# ---- what is open or wrong


def test_several_savers_are_told_apart_by_the_job(made: Any, problems: Any):
    """Two SaveImages: the job must say which one makes the dataset."""
    graph = CLASSIC | {"19": node("SaveImage", filename_prefix="small", images=["8", 0])}
    (problem,) = problems(graph)
    assert problem.startswith(
        "workflow.bindings.output: is open: 2 nodes save (choose one: output = '9' (after 1 sampler);"
    )
    found = made(graph, bindings={"output": "19"})
    assert (found.output, bound(found, "prefix")) == ("19", ["19.filename_prefix"])


def test_a_named_saver_of_another_class_is_kept(made: Any):
    """A saver from a node pack is the output when the job names it, whatever else the graph shows."""
    graph = CLASSIC | {
        "9": node("Image Save", filename_prefix="x", images=["8", 0]),
        "10": node("PreviewImage", images=["8", 0]),
    }
    assert made(graph, bindings={"output": "9"}).output == "9"


def test_a_graph_that_saves_nothing_is_told_so(problems: Any):
    """Without an output there is nothing to fetch."""
    graph = {name: one for name, one in CLASSIC.items() if name != "9"}
    assert problems(graph) == ["workflow: has no SaveImage or PreviewImage node (add a SaveImage node)"]


def test_what_cannot_be_found_is_named_with_an_example(problems: Any):
    """The problem of a missing binding has a line to put into the job file, from this very graph where there is one."""
    graph = CLASSIC | {
        "5": node("OddSampler", noise=["30", 0], first=["3", 0], second=["4", 0], latent=["2", 0], model=["1", 0]),
        "30": node("PrimitiveInt", value=3),
    }
    seed, positive, negative = problems(graph, sampling=JOB["sampling"] | {"batch": 2})
    assert seed.startswith("workflow.bindings.seed: has no input in the graph")
    for side, reported in (("positive", positive), ("negative", negative)):
        assert f'{side} = "3.text" for CLIPTextEncode (node 3)' in reported
        assert f'{side} = "4.text" for CLIPTextEncode (node 4)' in reported


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("sed", "5.seed", "workflow.bindings.sed: is not a binding (did you mean 'seed'?)"),
        (
            "xyz",
            "5.seed",
            (
                "workflow.bindings.xyz: is not a binding (the names are output, positive, negative, seed, steps, cfg, "
                "guidance, sampler, scheduler, checkpoint, width, height, batch, prefix)"
            ),
        ),
        ("seed", "5", "workflow.bindings.seed: '5' names no input (write it as 'node.seed')"),
        (
            "steps",
            "Samplr.steps",
            "workflow.bindings.steps: no node has the id or title 'Samplr' (did you mean 'Sampler'?)",
        ),
        ("steps", "nope.steps", "workflow.bindings.steps: no node has the id or title 'nope' (there are Sampler)"),
        (
            "cfg",
            "2.cfg",
            "workflow.bindings.cfg: node 2 has no input 'cfg' (it has width, height, batch_size)",
        ),
        (
            "output",
            "sampler",
            "workflow.bindings.output: no node has the id or title 'sampler' (did you mean 'Sampler'?)",
        ),
    ],
)
def test_each_wrong_binding_has_its_sentence(problems: Any, name: str, value: str, problem: str):
    """The problem of a binding that cannot be used names those that exist."""
    graph = copy.deepcopy(CLASSIC)
    graph["5"]["_meta"] = {"title": "Sampler"}
    assert problems(graph, bindings={name: value}) == [problem]


def test_all_wrong_bindings_come_at_once(problems: Any):
    """Every problem of a workflow is reported in one go."""
    reported = problems(CLASSIC, bindings={"sed": "5.seed", "seed": "5", "output": "nosuch", "steps": "7.steps"})
    assert {text.split(":")[0].rpartition(".")[2] for text in reported} == {"sed", "output", "seed", "steps"}


def test_wrong_bindings_are_told_in_the_order_of_the_job_file(problems: Any):
    """The same mistakes are reported in the same order each time."""
    names = ["sed", "zzz", "positve", "aaa", "negatve", "mmm", "cgf", "bbb"]
    reported = problems(CLASSIC, bindings=dict.fromkeys(names, "5.seed"))
    assert [text.split(":")[0].rpartition(".")[2] for text in reported] == names


def test_a_title_that_two_nodes_have_names_neither(problems: Any):
    """ComfyUI gives every text the same title: such a name is open, not the last of them."""
    graph = copy.deepcopy(CLASSIC)
    for name in ("3", "4"):
        graph[name]["_meta"] = {"title": "CLIP Text Encode (Prompt)"}
    (problem,) = problems(graph, bindings={"positive": "CLIP Text Encode (Prompt).text"})
    assert problem.startswith("workflow.bindings.positive: ")
    assert "3" in problem
    assert "4" in problem


@pytest.mark.parametrize("inputs", [None, [], "x"], ids=repr)
def test_inputs_that_are_no_table_are_a_problem(problems: Any, inputs: object):
    """A node whose inputs are something else is reported, and raises nothing else."""
    graph: dict[str, Any] = copy.deepcopy(CLASSIC)
    graph["8"]["inputs"] = inputs
    (problem,) = problems(graph)
    assert "node 8" in problem


# ---- what others ask a template


def test_a_node_is_called_as_people_know_it(made: Any):
    """Its class, its title when it has another one, and its id."""
    graph = copy.deepcopy(CLASSIC)
    graph["5"]["_meta"] = {"title": "First pass"}
    graph["8"]["_meta"] = {"title": "VAEDecode"}
    found = made(graph)
    assert [found.label(name) for name in ("5", "8", "9", "77")] == [
        "KSampler 'First pass' (node 5)",
        "VAEDecode (node 8)",
        "SaveImage (node 9)",
        "? (node 77)",
    ]


def test_a_binding_has_a_value_before_any_request(made: Any):
    """The preflight asks what will be sent: the job's value, else the graph's own, else nothing."""
    found = made(CLASSIC)
    assert (found.value("checkpoint"), found.value("seed"), found.value("prefix")) == ("job.safetensors", 1, "ComfyUI")
    assert (found.value("scheduler"), found.value("nothing")) == ("normal", None)


def test_fixed_inputs_are_those_that_every_prompt_shares(made: Any):
    """Inputs that change from prompt to prompt are left out; fixed ones have the job's value, others the graph's."""
    found = made(CLASSIC, sampling=JOB["sampling"] | {"steps": 33})
    shared = {key: value for key, value in CLASSIC["5"]["inputs"].items() if key != "seed"}
    assert found.fixed_inputs("5") == shared | {"steps": 33}
    assert found.fixed_inputs("1") == {"ckpt_name": "job.safetensors"}
    assert found.fixed_inputs("3") == {"clip": ["1", 1]}


def test_the_built_in_graph_is_a_new_one_each_time():
    """Nobody can spoil the built-in graph for the next job."""
    built_in()["3"]["inputs"]["steps"] = 1
    assert built_in()["3"]["inputs"]["steps"] == 20


def test_bindings_of_the_built_in_graph_are_found_not_written():
    """The built-in graph goes through the same search as anybody's."""
    found = prepared_of(a_job()).template
    assert found.bindings["positive"] == (Binding("6", "text"),)
    assert found.bindings["negative"] == (Binding("7", "text"),)
    assert found.output == "9"
