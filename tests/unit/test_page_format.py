"""Workflows as the page saves them: converted as the page itself would, or refused naming the node."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from reggen.sim.settings import Settings
from reggen.sim.state.specs import Specs
from reggen.workflow.page_format import PageError, classes_of, from_page, is_page_format
from reggen.workflow.widgets import WidgetError, values_of

INFO: dict[str, Any] = {
    "CheckpointLoaderSimple": {"input": {"required": {"ckpt_name": [["x.safetensors", "y.safetensors"]]}}},
    "EmptyLatentImage": {
        "input": {
            "required": {
                "width": ["INT", {"default": 512, "min": 16, "max": 16384}],
                "height": ["INT", {"default": 512, "min": 16, "max": 16384}],
                "batch_size": ["INT", {"default": 1, "min": 1, "max": 4096}],
            }
        }
    },
    "CLIPTextEncode": {"input": {"required": {"text": ["STRING", {"multiline": True}], "clip": ["CLIP"]}}},
    "KSampler": {
        "input": {
            "required": {
                "model": ["MODEL"],
                "seed": ["INT", {"default": 0, "min": 0, "max": 2**64 - 1, "control_after_generate": True}],
                "steps": ["INT", {"default": 20, "min": 1, "max": 10000}],
                "cfg": ["FLOAT", {"default": 8.0, "min": 0.0, "max": 100.0}],
                "sampler_name": [["euler", "heun"]],
                "scheduler": [["normal", "karras"]],
                "positive": ["CONDITIONING"],
                "negative": ["CONDITIONING"],
                "latent_image": ["LATENT"],
                "denoise": ["FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0}],
            }
        }
    },
    "VAEDecode": {"input": {"required": {"samples": ["LATENT"], "vae": ["VAE"]}}},
    "SaveImage": {"input": {"required": {"images": ["IMAGE"], "filename_prefix": ["STRING", {"default": "ComfyUI"}]}}},
    "LoraLoaderModelOnly": {
        "input": {"required": {"model": ["MODEL"], "lora_name": [["a.safetensors"]], "strength_model": ["FLOAT", {}]}}
    },
    "LoadImage": {"input": {"required": {"image": [["x.png"], {"image_upload": True}]}}},
    "SaveImageAdvanced": {
        "input": {
            "required": {
                "images": ["IMAGE"],
                "filename_prefix": ["STRING", {"default": "ComfyUI"}],
                "format": [
                    "COMFY_DYNAMICCOMBO_V3",
                    {
                        "options": [
                            {
                                "key": "png",
                                "inputs": {"required": {"bit_depth": ["COMBO", {"options": ["8-bit", "16-bit"]}]}},
                            },
                            {"key": "webp", "inputs": {"required": {"quality": ["INT", {"default": 90}]}}},
                        ]
                    },
                ],
            }
        }
    },
}


def node(
    number: int, kind: str, values: Any = (), *, inputs: dict[str, int] | None = None, **more: Any
) -> dict[str, Any]:
    """A node of the page; ``inputs`` are link numbers by name."""
    slots = [{"name": name, "type": _TYPES.get(name, "*"), "link": link} for name, link in (inputs or {}).items()]
    listed = list(values) if isinstance(values, tuple) else values
    return {"id": number, "type": kind, "mode": 0, "inputs": slots, "widgets_values": listed, **more}


_TYPES = {"model": "MODEL", "clip": "CLIP", "vae": "VAE", "samples": "LATENT", "images": "IMAGE", "text": "STRING"}


def page(**changes: Any) -> dict[str, Any]:
    """The classic graph as the page saves it; ``changes`` replace nodes by n3=..., or add links and more."""
    nodes = {
        "n3": node(3, "KSampler", (7, "randomize", 20, 8, "euler", "normal", 1), inputs={
            "model": 1, "positive": 4, "negative": 6, "latent_image": 2,
        }),
        "n4": node(4, "CheckpointLoaderSimple", ("x.safetensors",)),
        "n5": node(5, "EmptyLatentImage", (512, 768, 1)),
        "n6": node(6, "CLIPTextEncode", ("a cat",), inputs={"clip": 3}, title="Positive"),
        "n7": node(7, "CLIPTextEncode", ("bad",), inputs={"clip": 5}),
        "n8": node(8, "VAEDecode", (), inputs={"samples": 7, "vae": 8}),
        "n9": node(9, "SaveImage", ("ComfyUI",), inputs={"images": 9}),
    }  # fmt: skip
    links = [
        [1, 4, 0, 3, 0, "MODEL"], [2, 5, 0, 3, 3, "LATENT"], [3, 4, 1, 6, 0, "CLIP"], [4, 6, 0, 3, 1, "CONDITIONING"],
        [5, 4, 1, 7, 0, "CLIP"], [6, 7, 0, 3, 2, "CONDITIONING"], [7, 3, 0, 8, 0, "LATENT"], [8, 4, 2, 8, 1, "VAE"],
        [9, 8, 0, 9, 0, "IMAGE"],
    ]  # fmt: skip
    more = changes.pop("links", [])
    found = {**nodes, **{name: one for name, one in changes.items() if name.startswith("n")}}
    extra = {name: one for name, one in changes.items() if not name.startswith("n")}
    return {"nodes": [one for one in found.values() if one], "links": [*links, *more], "version": 0.4, **extra}


def test_the_classic_graph_is_what_the_page_exports() -> None:
    """Widgets by name, links by node and output, the control of the seed left out, titles kept."""
    made = from_page(page(), INFO)
    assert made["3"]["inputs"] == {
        "seed": 7, "steps": 20, "cfg": 8, "sampler_name": "euler", "scheduler": "normal", "denoise": 1,
        "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0],
    }  # fmt: skip
    assert made["6"] == {
        "class_type": "CLIPTextEncode",
        "inputs": {"text": "a cat", "clip": ["4", 1]},
        "_meta": {"title": "Positive"},
    }
    assert set(made) == {"3", "4", "5", "6", "7", "8", "9"}
    assert is_page_format(page())
    assert not is_page_format(made)
    assert "KSampler" in classes_of(page())


@pytest.mark.parametrize("control", [(True,), (False,), ("fixed",), ()], ids=["true", "false", "fixed", "none"])
def test_the_control_of_a_seed_shifts_nothing(control: tuple[Any, ...]) -> None:
    """A word today, a truth value in 2023, nothing before: the values behind it stay in their places."""
    made = from_page(page(n3=node(3, "KSampler", (7, *control, 20, 8, "euler", "normal", 1))), INFO)
    assert made["3"]["inputs"]["steps"] == 20
    assert made["3"]["inputs"]["sampler_name"] == "euler"


WRONG = {
    "a shifted list": (
        node(3, "KSampler", (7, "randomize", True, 20, 8, "euler", "normal")),
        "steps has the value True",
    ),
    "a value too many": (node(3, "KSampler", (7, "fixed", 20, 8, "euler", "normal", 1, 5)), "it has 8 values"),
    "a choice of another version": (node(3, "KSampler", (7, "fixed", 20, 8, "euler", "beta57", 1)), "'beta57'"),
    "a number out of its limits": (
        node(3, "KSampler", (7, "fixed", 0, 8, "euler", "normal", 1)),
        "steps has the value 0",
    ),
    "an unknown class": (node(3, "Mystery"), "the server does not have its class"),
    "a group node": (node(3, "workflow>mine"), "group node"),
    "links that only the page sees": (node(3, "Anything Everywhere"), "only the page sees"),
}


@pytest.mark.parametrize(("wrong", "reason"), WRONG.values(), ids=WRONG)
def test_what_is_not_certain_is_refused_with_its_node(wrong: dict[str, Any], reason: str) -> None:
    """No value is guessed: the node is named, and what to do about it."""
    with pytest.raises(PageError) as caught:
        from_page(page(n3=wrong), INFO)
    assert "(node 3)" in str(caught.value)
    assert reason in str(caught.value)
    assert "Export (API)" in caught.value.problem.hint


def test_reroutes_primitives_and_set_nodes_are_inlined() -> None:
    """They exist on the page only: their links are followed, a primitive's value stands where it was linked."""
    made = from_page(
        page(
            n3=node(3, "KSampler", (7, "fixed", 20, 8, "euler", "normal", 1), inputs={
                "model": 20, "positive": 4, "negative": 6, "latent_image": 2, "seed": 22,
            }),
            n10=node(10, "Reroute", (), inputs={"": 21}),
            n11=node(11, "GetNode", ("MODEL",)),
            n12=node(12, "SetNode", ("MODEL",), inputs={"MODEL": 1}),
            n13=node(13, "PrimitiveNode", (99, "fixed")),
            n14=node(14, "Note", ("read me",)),
            links=[[20, 10, 0, 3, 0, "MODEL"], [21, 11, 0, 10, 0, "MODEL"], [22, 13, 0, 3, 4, "INT"]],
        ),
        INFO,
    )  # fmt: skip
    assert made["3"]["inputs"]["model"] == ["4", 0]
    assert made["3"]["inputs"]["seed"] == 99
    assert set(made) == {"3", "4", "5", "6", "7", "8", "9"}


@pytest.mark.parametrize(
    ("mode", "origin"), [(4, ["4", 0]), (2, None), (0, ["10", 0])], ids=["bypassed", "muted", "live"]
)
def test_muted_and_bypassed_nodes(mode: int, origin: list[Any] | None) -> None:
    """A muted node takes its links along; past a bypassed one the link goes on by type."""
    lora = node(10, "LoraLoaderModelOnly", ("a.safetensors", 1.0), inputs={"model": 1}, mode=mode)
    sampler = node(3, "KSampler", (7, "fixed", 20, 8, "euler", "normal", 1), inputs={"model": 20, "positive": 4})
    made = from_page(page(n3=sampler, n10=lora, links=[[20, 10, 0, 3, 0, "MODEL"]]), INFO)
    assert made["3"]["inputs"].get("model") == origin
    assert ("10" in made) == (mode == 0)


def test_choices_that_bring_widgets_along() -> None:
    """A dynamic choice has names under its own; an upload button's label is no value."""
    advanced = values_of(INFO["SaveImageAdvanced"], ["x", "png", "16-bit"])
    assert advanced == {"filename_prefix": "x", "format": "png", "format.bit_depth": "16-bit"}
    assert values_of(INFO["LoadImage"], ["photo.png", "image"]) == {"image": "photo.png"}
    button = {"name": "upload", "options": {"serialize": False}}
    assert values_of(INFO["LoadImage"], ["photo.png", button]) == {"image": "photo.png"}
    assert values_of(INFO["SaveImage"], {"filename_prefix": "x", "other": 1}) == {"filename_prefix": "x"}
    assert values_of(INFO["VAEDecode"], ["what it showed last"]) == {}
    with pytest.raises(WidgetError):
        values_of(INFO["SaveImageAdvanced"], ["x", "tiff"])


def test_a_flag_after_a_seed_that_may_be_either_is_refused() -> None:
    """Files of 2023 keep a truth value there; where the next widget takes one, too, nobody can tell."""
    spec = {"input": {"required": {"seed": ["INT", {"min": 0}], "tiling": ["BOOLEAN", {"default": False}]}}}
    assert values_of(spec, [7, "fixed", True]) == {"seed": 7, "tiling": True}
    with pytest.raises(WidgetError, match="tiling"):
        values_of(spec, [7, True])


def in_a_subgraph(*, values: Any = (), seed: int = 7) -> dict[str, Any]:
    """The classic graph whose text, sampler and decoder lie in a subgraph, with its prompt and steps outside."""
    inner = {
        "id": "abc", "name": "Text to Image",
        "inputs": [{"name": "prompt", "type": "STRING"}, {"name": "steps", "type": "INT"}],
        "nodes": [
            node(3, "KSampler", (seed, "fixed", 20, 8, "euler", "normal", 1), inputs={
                "model": 1, "positive": 4, "negative": 6, "latent_image": 2, "steps": 11,
            }),
            node(4, "CheckpointLoaderSimple", ("x.safetensors",)), node(5, "EmptyLatentImage", (512, 768, 1)),
            node(6, "CLIPTextEncode", ("inner",), inputs={"clip": 3, "text": 10}),
            node(7, "CLIPTextEncode", ("bad",), inputs={"clip": 5}),
            node(8, "VAEDecode", (), inputs={"samples": 7, "vae": 8}),
        ],
        "links": [
            dict(zip(("id", "origin_id", "origin_slot", "target_id", "target_slot", "type"), link, strict=True))
            for link in [
                (1, 4, 0, 3, 0, "MODEL"), (2, 5, 0, 3, 3, "LATENT"), (3, 4, 1, 6, 0, "CLIP"),
                (4, 6, 0, 3, 1, "CONDITIONING"), (5, 4, 1, 7, 0, "CLIP"), (6, 7, 0, 3, 2, "CONDITIONING"),
                (7, 3, 0, 8, 0, "LATENT"), (8, 4, 2, 8, 1, "VAE"), (9, 8, 0, -20, 0, "IMAGE"),
                (10, -10, 0, 6, 1, "STRING"), (11, -10, 1, 3, 4, "INT"),
            ]
        ],
    }  # fmt: skip
    outer = node(75, "abc", values, inputs={"prompt": 31})
    return {
        "nodes": [outer, node(76, "PrimitiveNode", ("a cat",)), node(9, "SaveImage", ("x",), inputs={"images": 30})],
        "links": [[30, 75, 0, 9, 0, "IMAGE"], [31, 76, 0, 75, 0, "STRING"]],
        "definitions": {"subgraphs": [inner]},
    }


def test_subgraphs_are_expanded() -> None:
    """Ids are outer:inner; links lead in and out; an input without a link keeps the value inside."""
    made = from_page(in_a_subgraph(), INFO)
    assert made["75:6"]["inputs"] == {"text": "a cat", "clip": ["75:4", 1]}
    assert made["75:3"]["inputs"]["steps"] == 20
    assert made["9"]["inputs"]["images"] == ["75:8", 0]
    assert set(made) == {"9", *(f"75:{one}" for one in range(3, 9))}


def test_values_on_a_subgraph_and_inside_must_be_one() -> None:
    """Pages of different versions send one or the other: where they differ, nobody can tell."""
    assert from_page(in_a_subgraph(values=("a cat", 20)), INFO)["75:3"]["inputs"]["steps"] == 20
    with pytest.raises(PageError, match="steps is 30 on the subgraph and 20 inside"):
        from_page(in_a_subgraph(values=("a cat", 30)), INFO)
    with pytest.raises(PageError, match="the subgraph has 3 values for 2 widgets"):
        from_page(in_a_subgraph(values=("a cat", 20, 1)), INFO)


def test_a_subgraph_in_itself_is_refused() -> None:
    """It would have no end."""
    document = copy.deepcopy(in_a_subgraph())
    document["definitions"]["subgraphs"][0]["nodes"].append(node(20, "abc"))
    with pytest.raises(PageError, match="nested more than"):
        from_page(document, INFO)


def test_a_real_object_info_names_the_same_widgets() -> None:
    """The stand-in's classes, recorded from a server, give the classic graph as well."""
    recorded = Specs(Settings()).classes
    assert (
        from_page(page(n4=node(4, "CheckpointLoaderSimple", ("x.safetensors",))), recorded)["3"]["inputs"]["cfg"] == 8
    )
