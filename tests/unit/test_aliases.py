"""Names of other tools: each leads to the sampler, scheduler or key that is meant, never to one that looks like it."""

from __future__ import annotations

import pytest

from reggen.aliases import key_called, sampler_called, scheduler_called
from reggen.job import loader
from tests.unit.test_docs import job_keys


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("euler_a", ("euler_ancestral", "")),
        ("Euler a", ("euler_ancestral", "")),
        ("k_euler_a", ("euler_ancestral", "")),
        ("k_euler_ancestral", ("euler_ancestral", "")),
        ("EulerAncestralDiscreteScheduler", ("euler_ancestral", "")),
        ("DPM++ 2M", ("dpmpp_2m", "")),
        ("DPM++ 2M Karras", ("dpmpp_2m", "karras")),
        ("DPM++ 2M SDE Karras", ("dpmpp_2m_sde", "karras")),
        ("DPM++ 3M SDE Exponential", ("dpmpp_3m_sde", "exponential")),
        ("DPM++ 2S a Karras", ("dpmpp_2s_ancestral", "karras")),
        ("DPM++ SDE", ("dpmpp_sde", "")),
        ("k_dpmpp_2m", ("dpmpp_2m", "")),
        ("dpmpp_2m_karras", ("dpmpp_2m", "karras")),
        ("dpmsolver++", ("dpmpp_2m", "")),
        ("dpmsolver", ("dpmpp_2m", "")),
        ("DPMSolverMultistepScheduler", ("dpmpp_2m", "")),
        ("DPM2 a Karras", ("dpm_2_ancestral", "karras")),
        ("k_dpm_2", ("dpm_2", "")),
        ("k_dpm_2_a", ("dpm_2_ancestral", "")),
        ("UniPC", ("uni_pc", "")),
        ("Heun Karras", ("heun", "karras")),
        ("LMS Karras", ("lms", "karras")),
        ("PLMS", ("", "")),
        ("something else", None),
    ],
)
def test_a_sampler_of_another_tool_is_the_one_meant(name: str, meant: tuple[str, str] | None) -> None:
    """With the scheduler where the name holds one; "" for a sampler that ComfyUI lacks, None for an unknown name."""
    assert sampler_called(name) == meant


def test_schedulers_of_other_tools_are_known() -> None:
    """As A1111's list shows them."""
    assert [scheduler_called(name) for name in ("SGM Uniform", "Karras", "Automatic", "what")] == [
        *("sgm_uniform", "karras", "normal", ""),
    ]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("cfg_scale", "sampling.cfg"),
        ("guidance_scale", "sampling.cfg"),
        ("prompt", "prompts.positive"),
        ("negative_prompt", "prompts.negative"),
        ("resolution", "sampling.width and sampling.height"),
        ("batch_size", "sampling.batch"),
        ("sampler_name", "sampling.sampler"),
        ("--train_data_dir", "training.folder"),
        ("num-class-images", "dataset.count"),
        ("what", ""),
    ],
)
def test_a_key_of_another_tool_is_the_one_meant(name: str, key: str) -> None:
    """A1111's, kohya's and diffusers' names, also as their options are written."""
    assert key_called(name) == key


def test_every_alias_leads_to_a_key_of_the_job_file() -> None:
    """A renamed key does not leave an alias behind."""
    from reggen.aliases import _KEYS

    known = job_keys()
    for home in _KEYS:
        for key in home.split(" and "):
            table, _, name = key.partition(".")
            assert table in known, key
            assert not name or name in known[table], key
    assert loader.schema()
