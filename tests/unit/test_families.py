"""Graphs of model families: each is read without a question, and is of nodes that ComfyUI has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reggen.errors import JobError
from reggen.job.loader import load
from reggen.job.models import Job
from reggen.model_families import FAMILIES
from reggen.prepare.prepared_job import prepare
from reggen.workflow.family_graph import FamilyFiles, family_graph
from reggen.workflow.reader import read_workflow

WANTED = ("positive", "seed", "width", "height", "steps", "sampler")
_LARGE = FamilyFiles(model="model.safetensors")
_WHOLE = FamilyFiles(checkpoint="checkpoint.safetensors")


def files_of(name: str) -> FamilyFiles:
    return _LARGE if FAMILIES[name].encoders and FAMILIES[name].vae else _WHOLE


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_s_graph_is_read_without_a_question(name: str) -> None:
    """Its prompt, seed, size and settings are found; nothing else is sent, and no seed stays fixed."""
    family = FAMILIES[name]
    reading = read_workflow(family_graph(family, files_of(name)), {}, WANTED)
    assert reading.problems == ()
    assert all(reading.bindings.get(one) for one in WANTED)
    assert [str(one.binding) for one in reading.account.also_sent if not one.negative] == []
    assert (reading.account.fixed_seeds, reading.account.scaled_by) == ((), ())
    assert reading.account.negative == family.negative
    assert bool(reading.bindings.get("guidance")) == (family.guidance is not None)
    assert all(side % family.multiple == 0 for side in family.native)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_link_leads_to_a_node(name: str) -> None:
    """No dangling link, no node that leads nowhere."""
    graph = family_graph(FAMILIES[name], files_of(name))
    links = [value[0] for node in graph.values() for value in node["inputs"].values() if isinstance(value, list)]
    assert set(links) <= set(graph)
    assert [node["class_type"] for node_id, node in graph.items() if node_id not in links] == ["SaveImage"]


def test_files_and_options_of_the_job_come_first() -> None:
    """A GGUF model has a loader of its own; encoders, VAE, shift, guidance and clip skip replace the family's."""
    files = FamilyFiles(
        model="flux1-dev-Q8_0.gguf",
        text_encoders=("clip_l.safetensors", "t5-Q8.gguf"),
        vae="my.safetensors",
        guidance=2.5,
    )
    classes = {node["class_type"]: node["inputs"] for node in family_graph(FAMILIES["flux"], files).values()}
    assert classes["UnetLoaderGGUF"] == {"unet_name": "flux1-dev-Q8_0.gguf"}
    assert classes["DualCLIPLoaderGGUF"]["type"] == "flux"
    assert classes["VAELoader"] == {"vae_name": "my.safetensors"}
    assert classes["FluxGuidance"]["guidance"] == 2.5
    sdxl = family_graph(FAMILIES["sdxl"], FamilyFiles(checkpoint="x.safetensors", vae="fix.safetensors", clip_skip=2))
    classes = {node["class_type"]: node["inputs"] for node in sdxl.values()}
    assert classes["CLIPSetLastLayer"]["stop_at_clip_layer"] == -2
    assert classes["VAEDecode"]["vae"] == [
        next(key for key, node in sdxl.items() if node["class_type"] == "VAELoader"),
        0,
    ]


CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("name", ["sdxl", "flux", "qwen-image", "z-image"])
def test_the_example_of_a_family_is_planned(name: str) -> None:
    """Each example in configs/ loads, and its graph is built and read without a server or a question."""
    (prepared,) = prepare(load(CONFIGS / f"{name}.toml"), name)
    assert len(prepared.plan) == 100
    assert prepared.template.bindings["positive"]
    assert prepared.size == FAMILIES[name if name != "z-image" else "z-image-turbo"].native


def a_job(**sampling: Any) -> Job:
    document = {
        "dataset": {"root": "reg", "class": "cat", "count": 1},
        "prompts": {"positive": "a cat"},
        "sampling": sampling,
    }
    return Job.model_validate(document)


def test_values_left_out_are_the_family_s() -> None:
    """Size, steps, cfg, sampler and scheduler; what the job says comes first."""
    (prepared,) = prepare(a_job(family="qwen-image", model="q.safetensors", steps=50), "job")
    assert prepared.size == (1328, 1328)
    assert [prepared.template.value(name) for name in ("steps", "cfg", "sampler", "scheduler")] == [
        50,
        4,
        "euler",
        "simple",
    ]


def test_the_classic_graph_takes_a_vae_and_a_clip_skip() -> None:
    """Without a family as well; nothing else changes."""
    (plain,) = prepare(a_job(checkpoint="x.safetensors", seed=1), "job")
    (made,) = prepare(a_job(checkpoint="x.safetensors", seed=1, vae="v.safetensors", clip_skip=2), "job")
    classes = [node["class_type"] for node in made.template.graph.values()]
    assert sorted(classes) == sorted(
        [node["class_type"] for node in plain.template.graph.values()] + ["VAELoader", "CLIPSetLastLayer"]
    )
    for name in ("steps", "cfg", "sampler", "scheduler"):
        assert made.template.value(name) == plain.template.value(name)
    assert made.size == plain.size


WRONG = {
    "an unknown family": ({"family": "flx", "checkpoint": "x"}, "did you mean 'flux'?"),
    "a model without a family": ({"model": "x.safetensors"}, "model goes with a family"),
    "two models": ({"family": "flux", "model": "x", "checkpoint": "y"}, "leave one of the two out"),
    "a side that does not fit": (
        {"family": "flux", "model": "x", "width": 1000, "height": 1024}, "1000 is not a multiple of 16",
    ),
    "no VAE": ({"family": "lumina2", "model": "x"}, "needs vae as well"),
}  # fmt: skip


@pytest.mark.parametrize(("sampling", "problem"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_a_family_is_told(sampling: dict[str, Any], problem: str, tmp_path: Path) -> None:
    """With the key, what is wrong and the nearest right value."""
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in sampling.items())
    file = tmp_path / "job.toml"
    file.write_text(
        f'[dataset]\nroot = "reg"\nclass = "cat"\ncount = 1\n[prompts]\npositive = "x"\n[sampling]\n{lines}\n'
    )
    with pytest.raises(JobError) as caught:
        load(file)
    assert problem in str(caught.value)
