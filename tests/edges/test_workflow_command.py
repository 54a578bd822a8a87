"""`reggen workflow`: how a file is read, without a job, and its API format."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import reggen
from reggen.cli import app
from reggen.errors import BAD_JOB, COMPLETE, INCOMPLETE, WorkflowError
from reggen.sim import Settings, serve
from tests.unit.test_page_format import node, page
from tests.unit.test_workflow_corpus import FIXTURES


def command(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["workflow", *map(str, words)])


def test_bindings_and_what_is_sent_are_shown() -> None:
    """With the node and input of each name, as plan shows them; nothing is open."""
    done = command(FIXTURES / "47_scaleby_after.json")
    assert done.exit_code == COMPLETE
    assert "8 nodes, in API format" in done.stdout
    assert "positive     -> CLIPTextEncode (node 6).text" in done.stdout
    assert "upscaled by  ImageScaleBy (node 60), 2 times" in done.stdout
    assert "A job can use it as it is" in done.stdout


def test_questions_are_told_as_a_job_would_be_told() -> None:
    """Each candidate is ready to be pasted; the exit code says that something is open."""
    done = command(FIXTURES / "06_concat_core.json")
    assert done.exit_code == INCOMPLETE
    assert (
        'QUESTION     positive is open: 2 texts make it (choose in [workflow.bindings]: positive = "26.string_a"'
        in (done.stdout)
    )


def test_the_graph_of_a_picture_is_written(tmp_path: Path) -> None:
    """The file is JSON in API format; one that exists already is left alone."""
    out = tmp_path / "out.json"
    assert command(FIXTURES / "both.webp", "--to", out).exit_code == COMPLETE
    assert reggen.read_workflow(out).graph == reggen.read_workflow(FIXTURES / "both.webp").graph
    again = command(FIXTURES / "both.webp", "--to", out)
    assert isinstance(again.exception, WorkflowError)
    assert again.exception.exit_code == BAD_JOB


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """The sentence names the file."""
    with pytest.raises(WorkflowError, match="there is no such file"):
        reggen.read_workflow(tmp_path / "none.json")


async def test_a_page_s_workflow_is_converted_by_a_server(tmp_path: Path) -> None:
    """Its nodes are asked of the server that is named; without one the remedies are."""
    file, out = tmp_path / "page.json", tmp_path / "api.json"
    classic = page(n4=node(4, "CheckpointLoaderSimple", ("AnythingXL_inkBase.safetensors",)))
    file.write_text(json.dumps(classic), encoding="utf-8")
    async with serve(Settings()) as sim:
        done = await asyncio.to_thread(command, file, "--server", sim.url, "--to", out)
    assert done.exit_code == COMPLETE
    assert f"as ComfyUI's page saves it, converted with the nodes of {sim.url}" in done.stdout
    assert reggen.read_workflow(out).questions == ()
    with pytest.raises(WorkflowError, match="no server tells its nodes"):
        await asyncio.to_thread(reggen.read_workflow, file, "http://127.0.0.1:9")
