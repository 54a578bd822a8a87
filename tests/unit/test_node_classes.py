"""Choices of a node's inputs, and suggestions among them."""

from __future__ import annotations

import pytest

from reggen.comfy.node_classes import choices_of, suggestion


@pytest.mark.parametrize(
    ("spec", "choices"),
    [
        ([["euler", "heun"], {"tooltip": "x"}], ["euler", "heun"]),
        ([["euler"]], ["euler"]),
        ((("a", "b"),), ["a", "b"]),
        (["COMBO", {"options": ["a", 2]}], ["a", "2"]),
        (["COMBO", {}], []),
        (["COMBO"], []),
        (["INT", {"default": 0}], []),
        ([], []),
        (None, []),
        ("<trimmed>", []),
    ],
)
def test_choices_are_read_from_old_and_new_specifications(spec: object, choices: list[str]):
    """An input's choices stand first in its specification, or under COMBO's options; otherwise there are none."""
    assert choices_of(spec) == choices


SAMPLERS = ["euler", "euler_ancestral", "heun", "dpm_2", "dpmpp_2s_ancestral", "dpmpp_2m", "dpmpp_2m_sde"]


@pytest.mark.parametrize(
    ("got", "choices", "clause"),
    [
        ("euler_ancestrl", ["euler", "euler_ancestral"], "; did you mean 'euler_ancestral'?"),
        ("EULER", ["euler", "heun"], "; did you mean 'euler'?"),
        ("zzz", ["euler", "heun"], "; it has euler, heun"),
        ("zzz", [f"m{n}" for n in range(11)], "; it has m0, m1, m2, m3, m4, m5, m6, m7 and 3 more"),
        ("zzz", [], ""),
        ("euler_a", SAMPLERS, "; ComfyUI calls it 'euler_ancestral'"),
        ("k_euler_a", SAMPLERS, "; ComfyUI calls it 'euler_ancestral'"),
        ("dpmsolver++", SAMPLERS, "; ComfyUI calls it 'dpmpp_2m'"),
        ("DPM++ 2M Karras", SAMPLERS, "; ComfyUI calls it 'dpmpp_2m', with scheduler 'karras'"),
        ("dpmpp_2m_sd", SAMPLERS, "; did you mean 'dpmpp_2m_sde'?"),
        ("dpmpp_2s", SAMPLERS, "; did you mean 'dpmpp_2s_ancestral'?"),
        ("dpmpp_4m", SAMPLERS, f"; it has {', '.join(SAMPLERS)}"),
        ("SGM Uniform", ["normal", "sgm_uniform"], "; ComfyUI calls it 'sgm_uniform'"),
        (
            "anything.safetensors",
            ["sdxl/anything.safetensors", "b.ckpt"],
            "; did you mean 'sdxl/anything.safetensors'?",
        ),
        (
            "AnythingXL",
            ["AnythingXL_inkBase.safetensors", "b.ckpt"],
            "; did you mean 'AnythingXL_inkBase.safetensors'?",
        ),
        ("v1-5-pruned.safetensors", ["v2-1-pruned.safetensors"], "; it has v2-1-pruned.safetensors"),
    ],
)
def test_a_suggestion_is_the_nearest_choice_or_what_there_is(got: str, choices: list[str], clause: str):
    """A near choice is named as the server spells it; without one the first few are listed."""
    assert suggestion(got, choices) == clause
