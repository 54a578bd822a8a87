"""Graphs of model families: each is read without a question, and is of nodes that ComfyUI has."""

from __future__ import annotations

import pytest

from reggen.workflow.families import FAMILIES, FamilyFiles, family_graph
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
