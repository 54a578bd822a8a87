"""The house stands as docs/design.md draws it: imports go down only."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import reggen
from tests.style import rooms
from tests.style.figures import read

ROOT = Path(reggen.__file__).parent
FLOORS = {
    "backoff": 0,
    "errors": 0,
    "geometry": 0,
    "progress": 0,
    "wording": 0,
    "aliases": 1,
    "files": 1,
    "model_families": 1,
    "kohya": 1,
    "prompts": 1,
    "comfy": 2,
    "job": 2,
    "images": 3,
    "launch": 3,
    "planning": 3,
    "dataset": 4,
    "scheduler": 4,
    "training": 4,
    "workflow": 4,
    "diagnosis": 5,
    "prepare": 5,
    "engine": 6,
    "report": 7,
    "api": 8,
    "cli": 9,
    "__main__": 10,
}
# packages that work on values alone: no file, no clock, no chance, no thread
PURE = {"errors", "geometry", "progress", "wording", "aliases", "kohya", "prompts", "planning", "scheduler", "workflow"}
WHOLE_JOB = {"job", "prepare"}
"""Packages below the engine that may be handed a whole job."""
OUTSIDE = {
    "PIL", "asyncio", "io", "os", "random", "shutil", "socket", "sqlite3", "subprocess", "tempfile", "threading",
    "time", "reggen.files",
}  # fmt: skip
# a generator that is given its seed answers the same for ever: kohya shuffles a validation split with it
SEEDED = {"kohya.validation": {"random"}}
# which of our modules may know which library
KNOWS = {
    "aiofiles": {"dataset.download"},
    "aiohappyeyeballs": {"comfy.websocket"},
    "aiohttp": {"comfy.download", "comfy.translation", "comfy.transport", "sim.http.server"},
    "apprise": {"report.notify"},
    "filelock": {"dataset.lock"},
    "jinja2": {"report.morning.page"},
    "numpy": {"images.phash", "images.phash_index", "images.thumbnail"},
    "PIL": {
        "images.check",
        "images.compare",
        "images.decode",
        "images.formats",
        "images.phash",
        "images.probe",
        "images.thumbnail",
        "prepare.workflow_file",
        "sim.painting.paint",
    },
    "psutil": {"launch.process"},
    "pydantic": {
        "job.dataset",
        "job.models",
        "job.sampling",
        "job.section",
        "job.servers",
        "job.validation",
        "training.dataset_config",
    },
    "rich": {"cli.review", "cli.run", "report.console"},
    "sqlite3": {"dataset.database"},
    "tomli_w": {"report.trainers.kohya"},
    "typer": {
        "cli",
        "cli.inspect",
        "cli.options",
        "cli.report",
        "cli.review",
        "cli.run",
        "cli.servers",
        "cli.standin",
        "cli.workflow",
    },
    "wakepy": {"cli.run"},
    "websockets": {"comfy.websocket"},
    "yaml": {"report.trainers.ai_toolkit"},
    "yarl": {"comfy.download", "comfy.transport"},
}


pytestmark = pytest.mark.xdist_group("floors")  # the sources are read once


@pytest.fixture(scope="module")
def imports() -> Mapping[str, frozenset[str]]:
    """The imports of each module."""
    return rooms.imports(ROOT)


@pytest.fixture(scope="module")
def graph(imports: Mapping[str, frozenset[str]]) -> rooms.Graph:
    """The imports of each module among ours."""
    return rooms.module_graph(imports, ROOT.name)


def allowed(module: str, imported: str) -> bool:
    """Whether a module may import something of this package."""
    own = rooms.package(module)
    if "sim" in (own, imported):
        return own == imported or (module, imported) in {("api.rehearsal", "sim"), ("cli.standin", "sim")}
    return own == imported or FLOORS[imported] < FLOORS[own]


def test_imports_go_down_only(graph: rooms.Graph) -> None:
    """A package imports from floors below its own, and from nothing beside it; the stand-in from itself alone."""
    pairs = {(module, rooms.package(one)) for module, imported in graph.items() for one in imported}
    assert [f"{module} imports {imported}" for module, imported in pairs if not allowed(module, imported)] == []


def test_the_command_line_uses_the_public_api(graph: rooms.Graph) -> None:
    """Beside it commands have their display, their errors and the stand-in: a program can do whatever they do."""
    used = {rooms.package(one) for module in graph if rooms.package(module) == "cli" for one in graph[module]}
    assert used <= {"api", "cli", "errors", "files", "report", "sim", "wording"}


def test_every_package_has_a_floor(graph: rooms.Graph) -> None:
    """A new package is given its floor before it lands."""
    assert set(map(rooms.package, graph)) == {*FLOORS, "sim"}


def test_pure_packages_touch_nothing_outside(imports: Mapping[str, frozenset[str]]) -> None:
    """What these packages answer follows from what they are given: they read no file, no clock and no chance."""
    touching = {
        module: (imported & OUTSIDE) - SEEDED.get(module, set())
        for module, imported in imports.items()
        if rooms.package(module) in PURE
    }
    assert {module: outside for module, outside in touching.items() if outside} == {}


def test_below_the_engine_no_function_takes_the_whole_job() -> None:
    """Each room is handed the part of a job that it needs: its signature says what it depends on."""
    takes = [
        f"{module.path}: {function.name}"
        for module in read(ROOT)
        for package in [module.path.split("/")[1].removesuffix(".py")]
        if FLOORS.get(package, FLOORS["engine"]) < FLOORS["engine"] and package not in WHOLE_JOB
        for function in module.functions
        if any(re.search(r"\b(Job|PreparedJob)\b", annotation) for annotation in function.takes)
    ]
    assert takes == []


def test_every_library_is_in_the_table(imports: Mapping[str, frozenset[str]]) -> None:
    """A library that the project takes up is given its place before it lands."""
    outside = {rooms.package(one) for module in imports if rooms.package(module) != "sim" for one in imports[module]}
    assert outside - {"reggen", *sys.stdlib_module_names} <= set(KNOWS)


def test_a_library_is_known_only_where_it_belongs(imports: Mapping[str, frozenset[str]]) -> None:
    """Each outside thing is owned by one module, so that replacing it touches one file."""
    knowing = {
        library: {module for module, imported in imports.items() if library in map(rooms.package, imported)}
        for library in KNOWS
    }
    assert knowing == KNOWS


def test_there_are_no_circles(graph: rooms.Graph) -> None:
    """No module imports itself, through others or not."""
    assert rooms.circles(graph) == []


def test_the_command_line_starts_without_what_only_its_commands_need() -> None:
    """--help answers at once: the heavy libraries wait for the command that works with them."""
    command = [sys.executable, "-X", "importtime", "-m", "reggen", "--help"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stderr
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in told.splitlines()}
    assert "typer" in imported
    assert imported & {"aiohttp", "websockets", "PIL", "pydantic", "sqlite3", "wakepy"} == set()
