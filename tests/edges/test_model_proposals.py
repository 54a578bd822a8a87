"""`check` proposes the lines of [sampling] from the models that a server has."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

import reggen
from reggen.comfy.client import Client
from reggen.engine.model_proposals import proposals
from reggen.errors import BAD_JOB, COMPLETE
from reggen.model_families import FAMILIES, family_of
from reggen.sim import Settings, serve
from tests.conftest import JobMaker

NAMES = {
    "flux1-dev.safetensors": "flux",
    "flux1-krea-dev_fp8_scaled.safetensors": "flux",
    "FLUX/flux1-schnell-Q8_0.gguf": "flux-schnell",
    "flux2-dev.safetensors": "flux2",
    "flux-2-klein-4b-fp8.safetensors": "flux2-klein-distilled",
    "flux-2-klein-base-4b.safetensors": "flux2-klein",
    "qwen_image_2512_bf16.safetensors": "qwen-image",
    "qwen_image_edit_fp8.safetensors": "",
    "z_image_turbo_bf16.safetensors": "z-image-turbo",
    "z_image_bf16.safetensors": "z-image",
    "sd3.5_large.safetensors": "sd3.5",
    "ponyDiffusionV6XL.safetensors": "sdxl",
    "noobaiXLVpred10.safetensors": "sdxl-vpred",
    "anima_base_v1.safetensors": "anima",
    "animagineXL40.safetensors": "sdxl",
    "v1-5-pruned-emaonly.safetensors": "sd15",
    "my_own_merge.safetensors": "",
}


@pytest.mark.parametrize(("name", "family"), NAMES.items())
def test_a_name_tells_the_family(name: str, family: str) -> None:
    """By the names that the makers give; where it says nothing, nothing is guessed."""
    assert family_of(name) == family
    assert not family or family in FAMILIES


@pytest.mark.parametrize(
    ("architecture", "family"),
    [("flux-1-dev", "flux"), ("stable-diffusion-xl-v1-base", "sdxl"), ("stable-diffusion-v1", "sd15")],
)
def test_the_header_comes_before_the_name(architecture: str, family: str) -> None:
    """A file may be called anything."""
    assert family_of("z_image_turbo.safetensors", architecture) == family


class Shelves(Client):
    """A server with some models, whose headers name an architecture."""

    def __init__(self, architecture: str = "", **shelves: list[str]) -> None:
        super().__init__("http://shelves")
        self._architecture, self._shelves = architecture, shelves

    async def models(self, folder: str) -> list[str]:
        return self._shelves.get(folder, [])

    async def architecture(self, folder: str, file: str) -> str:  # noqa: ARG002
        return self._architecture


async def proposed(server: Client, named: Iterable[str], family: str | None = None) -> list[str]:
    return [line for one in await proposals(server, named, family) for line in one.splitlines()]


async def test_a_missing_model_is_answered_with_those_that_are_there() -> None:
    """The lines can be pasted; placeholders are no models."""
    server = Shelves(
        checkpoints=["put_checkpoints_here", "mine.safetensors"], diffusion_models=["flux1-dev.safetensors"]
    )
    assert await proposed(server, ["other.safetensors"]) == [
        "it has 'mine.safetensors'; write in [sampling]:",
        'checkpoint = "mine.safetensors"',
        "it has 'flux1-dev.safetensors'; write in [sampling]:",
        'family = "flux"',
        'model = "flux1-dev.safetensors"',
    ]


async def test_a_model_of_another_family_is_told() -> None:
    """By its header, or by its name where the job says no family; the job's own word goes over a name."""
    server = Shelves(checkpoints=["flux1-dev-fp8.safetensors", "sdxl_base.safetensors"])
    (line, *paste) = await proposed(server, ["flux1-dev-fp8.safetensors"])
    assert "looks like another family (by its name)" in line
    assert paste == ['family = "flux"', 'checkpoint = "flux1-dev-fp8.safetensors"']
    assert await proposed(server, ["sdxl_base.safetensors"]) == []
    assert await proposed(server, ["sdxl_base.safetensors"], "flux") == []
    known = Shelves("stable-diffusion-xl-v1-base", checkpoints=["any.safetensors"])
    assert 'family = "sdxl"' in await proposed(known, ["any.safetensors"], "flux")


async def test_check_prints_them(job: JobMaker) -> None:
    """Under the server; a job that fits prints nothing of the kind."""
    async with serve(Settings(checkpoints=("sdxl_base.safetensors",))) as sim:
        wrong = await reggen.check(job(sim.url))
        right = await reggen.check(job(sim.url, sampling={"checkpoint": "sdxl_base.safetensors"}))
    assert (wrong.exit_code, right.exit_code) == (BAD_JOB, COMPLETE)
    assert 'family = "sdxl"\n      checkpoint = "sdxl_base.safetensors"' in str(wrong)
    assert "write in [sampling]" not in str(right)
