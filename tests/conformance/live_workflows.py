"""Workflows and model families against a real ComfyUI: what is posted is what was asked for.

    python -m tests.conformance.live_workflows --url http://127.0.0.1:8188 [--models ITS_MODELS_FOLDER]

Five workflows really run through reggen at 64 px with the server's checkpoint, and the graph that was posted is read
back
from each PNG. The graph of every family is posted: refused for the names of its files alone; and taken where empty
files of these names lie in the folder of models, which are made for it and removed again. Prints one line for each; the
exit code is 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from PIL import Image

import reggen
from reggen.model_families import FAMILIES
from reggen.workflow.family_graph import FamilyFiles, family_graph
from reggen.workflow.graph import Graph
from tests.unit.test_workflow_corpus import FIXTURES

CHECKPOINT = "AnythingXL_inkBase.safetensors"
SIZE, IMAGES = 64, 2
POSITIVE, NEGATIVE = "a cat on a wall", "blurry"
WORKFLOWS: dict[str, dict[str, Any]] = {  # with what the job has to answer
    "33a_runpod": {},  # the classic graph
    "11_two_savers": {"output": "43"},
    "15a_size_primitives": {},
    "39_conditioning_combine": {"positive": ["6.text", "10.text"]},
    "35_basicguider_then_ksampler": {},
}
FOLDERS = {"ckpt": "checkpoints", "unet": "diffusion_models", "clip": "text_encoders", "vae": "vae"}


def job_of(name: str, url: str, folder: Path) -> reggen.Job:
    return reggen.load(
        {
            "dataset": {"root": str(folder), "class": "cat", "count": IMAGES},
            "workflow": {"file": str(FIXTURES / f"{name}.json"), "bindings": WORKFLOWS[name]},
            "prompts": {"positive": POSITIVE, "negative": NEGATIVE},
            "sampling": {"width": SIZE, "height": SIZE, "seed": 1000, "checkpoint": CHECKPOINT},
            "checks": {"size": name != "11_two_savers"}
            | dict.fromkeys(("black", "flat", "noise", "duplicates"), False),
            "servers": [{"url": url}],
        }
    )


def value(graph: Graph, one: Any) -> Any:
    """A literal, or the value of the primitive behind a link."""
    return graph[one[0]]["inputs"]["value"] if isinstance(one, list) else one


def differences(graph: Graph, seed: int) -> Iterator[str]:
    """Seeds, sizes and texts of a posted graph that are not the ones asked for."""
    for node_id, node in graph.items():
        inputs = node["inputs"]
        for key in {"seed", "noise_seed"} & inputs.keys():
            if value(graph, inputs[key]) != seed:
                yield f"{node_id}.{key} is {inputs[key]}, not {seed}"
        if node["class_type"] == "EmptyLatentImage":
            sides = [value(graph, inputs[key]) for key in ("width", "height")]
            if sides != [SIZE, SIZE]:
                yield f"{node_id} is {sides}"
    texts = {node["inputs"]["text"] for node in graph.values() if node["class_type"] == "CLIPTextEncode"}
    if texts != {POSITIVE, NEGATIVE}:
        yield f"the texts are {texts}"


def run_workflow(name: str, url: str) -> list[str]:
    """Run one workflow; what is wrong with its images."""
    with tempfile.TemporaryDirectory() as folder:
        job = job_of(name, url, Path(folder))
        done = reggen.run_sync(job)
        found = [] if done.exit_code == 0 else [f"exit code {done.exit_code}: {done}"]
        for sample in reggen.plan(job):
            try:
                with Image.open(Path(folder, "1_cat", f"{sample.name}.png")) as image:
                    graph = json.loads(image.info["prompt"])
            except (OSError, KeyError) as error:
                found.append(f"{sample.name}: {error!r}")
                continue
            found += differences(graph, sample.seed)
        return found


def files_of(name: str) -> FamilyFiles:
    family = FAMILIES[name]
    return FamilyFiles(model=f"live-{name}.safetensors") if family.is_split else FamilyFiles(f"live-{name}.safetensors")


def named_files(graph: Graph) -> Iterator[tuple[str, str]]:
    """The folder and name of each file that a graph loads."""
    for node in graph.values():
        for key, one in node["inputs"].items():
            if "_name" in key and (folder := FOLDERS.get(key.partition("_")[0])):
                yield folder, one


@contextmanager
def empty_files(models: Path, graphs: list[Graph]) -> Iterator[None]:
    """Empty files in the folders of models, where nothing lies yet."""
    made = []
    for folder, name in {one for graph in graphs for one in named_files(graph)}:
        if not (file := models / folder / name).exists():
            file.touch()
            made.append(file)
    try:
        yield
    finally:
        for file in made:
            file.unlink()


def post(url: str, route: str, body: Any) -> tuple[int, Any]:
    """The status and the JSON of an answer."""
    request = Request(f"{url}{route}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urlopen(request, timeout=60) as answer:
            text, status = answer.read(), answer.status
    except HTTPError as error:
        text, status = error.read(), error.code
    return status, json.loads(text) if text else None


def refused(url: str, graph: Graph) -> list[str]:
    """Post a graph whose files the server lacks; the errors that are not about a name."""
    status, answer = post(url, "/prompt", {"prompt": graph})
    if status != HTTPStatus.BAD_REQUEST:
        return [f"HTTP {status}"]
    errors = [one for node in answer["node_errors"].values() for one in node["errors"]]
    return [str(one) for one in errors if one["type"] != "value_not_in_list"] + ([] if errors else ["no error"])


def taken(url: str, graph: Graph) -> list[str]:
    """Post a graph whose files are there, and take it out of the queue again."""
    status, answer = post(url, "/prompt", {"prompt": graph})
    if status != HTTPStatus.OK:
        return [f"HTTP {status}: {str(answer)[:500]}"]
    post(url, "/queue", {"delete": [answer["prompt_id"]]})
    return []


def families(url: str, models: Path | None) -> Iterator[tuple[str, list[str]]]:
    graphs = {name: family_graph(family, files_of(name)) for name, family in FAMILIES.items()}
    for name, graph in graphs.items():
        yield f"{name}: refused for its files", refused(url, graph)
    if models:
        with empty_files(models, list(graphs.values())):
            yield from ((f"{name}: taken", taken(url, graph)) for name, graph in graphs.items())


def main() -> int:
    """Print what differs; 1 if anything does."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.live_workflows")
    parser.add_argument("--url", required=True)
    parser.add_argument("--models", type=Path)
    options = parser.parse_args()
    results = list(families(options.url, options.models))
    results += [(f"{name}: run", run_workflow(name, options.url)) for name in WORKFLOWS]
    for what, wrong in results:
        print(f"{what}: {'; '.join(wrong) or 'as asked'}", flush=True)
    print(f"{len(results)} looked at, {sum(bool(wrong) for _, wrong in results)} differ")
    return int(any(wrong for _, wrong in results))


if __name__ == "__main__":
    sys.exit(main())
