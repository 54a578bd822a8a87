"""Files that a server has: a family's under other names, and the pictures that a workflow loads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from reggen.comfy.client import Client
from reggen.comfy.history import Outcome
from reggen.engine.preflight import ServerCheck, examine
from reggen.engine.usual_files import fitting
from reggen.planning.plan import PromptRequest
from reggen.prepare.prepared_job import PreparedJob
from tests.conftest import JobMaker
from tests.preparing import prepared_of
from tests.unit.test_workflow_corpus import FIXTURES


class Shelf(Client):
    """A server that has some files, by the input that names them."""

    def __init__(self, **files: list[str]) -> None:
        super().__init__("http://shelf", name="shelf")
        self._files = files

    async def queue_depth(self) -> int:
        return 0

    async def history(self, prompt_id: str) -> Outcome | None:  # noqa: ARG002
        return None

    async def version(self) -> str:
        return "0.33.0"

    async def node_class(self, name: str) -> dict[str, Any] | None:
        uploads = {"image_upload": True} if name == "LoadImage" else {}
        inputs = {key: [files, uploads] for key, files in self._files.items()}
        return {"input": {"required": inputs}, "output_node": name == "SaveImage"}


def flux(job: JobMaker, **sampling: Any) -> PreparedJob:
    values = {"family": "flux", "model": "flux1-dev.safetensors", "steps": None, "checkpoint": None, **sampling}
    return prepared_of(job("http://shelf", sampling=values, prompts={"negative": None}))


def examined(prepared: PreparedJob, server: Shelf) -> ServerCheck:
    (found,) = asyncio.run(examine([server], prepared.template))
    return found


ENCODERS = ["clip_l.safetensors", "text/t5xxl_fp8_e4m3fn.safetensors", "qwen_3_4b.safetensors"]
FLUX: Mapping[str, list[str]] = {
    "unet_name": ["flux1-dev.safetensors"],
    "clip_name1": ENCODERS,
    "clip_name2": ENCODERS,
    "vae_name": ["ae.safetensors", "other.safetensors"],
}


def test_another_precision_of_a_usual_file_is_used_there(job: JobMaker) -> None:
    """In prompts to that server only: the plan, and what says that a prompt is the same, have the usual names."""
    prepared = flux(job)
    check = examined(prepared, Shelf(**FLUX))
    assert check.problems == ()
    assert {one.input: name for one, name in check.files.items()} == {"clip_name2": ENCODERS[1]}
    request = PromptRequest((prepared.plan[0],))
    there = prepared.template.with_files(check.files).bind(request, "x")
    here = prepared.template.bind(request, "x")
    assert '"text/t5xxl_fp8_e4m3fn.safetensors"' in json.dumps(there)
    assert '"t5xxl_fp16.safetensors"' in json.dumps(here)


@pytest.mark.parametrize(
    ("encoders", "said"),
    [
        (["clip_l.safetensors"], "no file fits 't5xxl_fp16.safetensors'"),
        (
            ["clip_l.safetensors", "t5xxl_fp8_e4m3fn.safetensors", "t5xxl_fp8_e4m3fn_scaled.safetensors"],
            "several files",
        ),
    ],
    ids=["none", "several"],
)
def test_where_no_single_file_fits_the_line_to_paste_is_told(job: JobMaker, encoders: list[str], said: str) -> None:
    """Nothing is guessed between two precisions."""
    check = examined(flux(job), Shelf(**{**FLUX, "clip_name1": encoders, "clip_name2": encoders}))
    (problem,) = check.problems
    assert said in problem
    assert 'write text_encoders = ["...", ...] in [sampling]' in problem


def test_a_file_that_the_job_names_is_never_replaced(job: JobMaker) -> None:
    """It is missing, as any other."""
    named = ("clip_l.safetensors", "t5xxl_fp16.safetensors")
    check = examined(flux(job, text_encoders=named, vae="ae2.safetensors"), Shelf(**FLUX))
    assert check.files == {}
    assert [" is not in the server's list" in problem for problem in check.problems] == [True, True]


def test_folder_and_precision_are_no_part_of_a_stem() -> None:
    """A file of another size of the model is another file."""
    choices = ["qwen_3_4b_fp8_mixed.safetensors", "qwen_3_8b.safetensors", "q\\qwen_3_4b-Q8_0.gguf"]
    assert fitting("qwen_3_4b.safetensors", choices) == [choices[0], choices[2]]
    assert fitting("ae.safetensors", ["flux_ae.safetensors"]) == []


def image_job(job: JobMaker, tmp_path: Path, picture: str) -> PreparedJob:
    graph = json.loads((FIXTURES / "46_img2img.json").read_text("utf-8"))
    graph["50"]["inputs"]["image"] = picture
    (file := tmp_path / "workflow.json").write_text(json.dumps(graph), encoding="utf-8")
    sampling = {"width": None, "height": None}
    return prepared_of(job("http://shelf", workflow={"file": str(file)}, sampling=sampling))


@pytest.mark.parametrize(
    ("picture", "missing"),
    [("cat.png", False), ("dog.png", True), ("sub/dog.png", False), ("dog.png [output]", False)],
)
def test_a_picture_that_the_server_lacks_is_found(job: JobMaker, tmp_path: Path, picture: str, missing: bool) -> None:
    """Its list has the input folder without subfolders; names of other folders are not judged."""
    check = examined(image_job(job, tmp_path, picture), Shelf(image=["cat.png"]))
    assert [f"{picture!r} is not in the server's input folder" in one for one in check.problems] == [True] * missing
