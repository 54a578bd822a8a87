"""The model files of a server: `reggen models`, and what it does with servers of all ages."""

from __future__ import annotations

import asyncio
import json

import pytest
from typer.testing import CliRunner

import reggen
from reggen.cli import app
from reggen.comfy.model_files import ModelFile, read_sizes
from reggen.report.model_listing import format_models
from reggen.sim import Settings, serve

RUNNER = CliRunner()


async def test_the_models_of_a_server_are_listed_under_the_keys_of_a_job() -> None:
    """Names as ComfyUI lists them, to be pasted into the job; sizes only where the server tells them."""
    async with serve(Settings(checkpoints=("b.safetensors", "a.safetensors"))) as sim:
        found = await asyncio.to_thread(reggen.models, sim.url)
        shown = await asyncio.to_thread(RUNNER.invoke, app, ["models", "--server", sim.url, "--json"])
    assert found.files["sampling.checkpoint"] == (ModelFile("a.safetensors"), ModelFile("b.safetensors"))
    assert "  2 checkpoints  (for sampling.checkpoint)\n    a.safetensors\n    b.safetensors" in str(found)
    assert json.loads(shown.stdout)["sampling.checkpoint"][0] == {"name": "a.safetensors", "size": None}


def test_without_a_server_the_models_are_not_known() -> None:
    """A server's error, with its exit code; an address that is none is told as in a job."""
    with pytest.raises(reggen.ReggenError, match=r"127\.0\.0\.1:9"):
        reggen.models("http://127.0.0.1:9")
    with pytest.raises(reggen.JobError, match="write http://localhost:8188"):
        reggen.models("localhost:8188")


def test_sizes_are_read_from_newer_servers() -> None:
    """What is not as it should be is left out."""
    entries = [
        {"name": "sd\\a.ckpt", "size": 5},
        {"name": "b", "size": "x"},
        {"size": 1},
        3,
        {"name": "c", "size": True},
    ]
    assert read_sizes(entries) == {"sd/a.ckpt": 5}
    assert read_sizes({"a": 1}) == read_sizes(None) == {}


def test_sizes_are_shown_in_the_units_of_people() -> None:
    """GiB of checkpoints, MiB of the smaller ones."""
    files = {"sampling.vae": (ModelFile("a", 7 << 30), ModelFile("b", 300 << 20)), "loras": ()}
    assert format_models("s", files).splitlines() == [
        "s:",
        "  2 VAEs  (for sampling.vae)",
        "       7.00 GiB  a",
        "      300.0 MiB  b",
        "  0 LoRAs",
    ]


@pytest.mark.parametrize("words", [["-h"], ["run", "-h"], ["doctor", "-h"]])
def test_h_is_help(words: list[str]) -> None:
    """Of the program and of each command."""
    result = RUNNER.invoke(app, words)
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: ")
