"""The house stands as docs/design.md draws it: imports go down only."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import reggen
from tests.style import rooms

ROOT = Path(reggen.__file__).parent
FLOORS = {
    "backoff": 0,
    "errors": 0,
    "geometry": 0,
    "progress": 0,
    "wording": 0,
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
PURE = {"errors", "geometry", "progress", "wording", "kohya", "prompts", "planning", "scheduler", "workflow"}
WHOLE_JOB = {"job", "prepare"}
"""Packages below the engine that may be handed a whole job."""
OUTSIDE = {
    "PIL", "asyncio", "io", "os", "random", "shutil", "socket", "sqlite3", "subprocess", "tempfile", "threading",
    "time", "reggen.files",
}  # fmt: skip
# which of our modules may know which library
KNOWS = {
    "aiofiles": {"dataset.download"},
    "aiohappyeyeballs": {"comfy.websocket"},
    "aiohttp": {"comfy.download", "comfy.translation", "comfy.transport", "sim.http.server"},
    "apprise": {"report.notify"},
    "filelock": {"dataset.lock"},
    "numpy": {"images.phash", "images.phash_index"},
    "PIL": {
        "images.check",
        "images.compare",
        "images.decode",
        "images.formats",
        "images.phash",
        "images.probe",
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
    "typer": {"cli", "cli.inspect", "cli.options", "cli.review", "cli.run", "cli.standin"},
    "wakepy": {"cli.run"},
    "websockets": {"comfy.websocket"},
    "yaml": {"report.trainers.ai_toolkit"},
    "yarl": {"comfy.download", "comfy.transport"},
}


MODULES = dict(rooms.modules(ROOT))
KNOWN = frozenset(f"reggen.{name}" for name in MODULES)
IMPORTS = {name: set(rooms.imports(file, KNOWN)) for name, file in MODULES.items()}
GRAPH = rooms.module_graph(ROOT)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down_only(module: str) -> None:
    """A package imports from floors below its own, and from nothing beside it; the stand-in from itself alone."""
    own = rooms.package(module)
    for imported in {rooms.package(name) for name in GRAPH[module]} - {own}:
        if own == "sim" or imported == "sim":
            assert (module, imported) in {("api.rehearsal", "sim"), ("cli.standin", "sim")}
        else:
            assert FLOORS[imported] < FLOORS[own], f"{module} imports {imported}"


@pytest.mark.parametrize("module", [name for name in MODULES if rooms.package(name) == "cli"])
def test_the_command_line_uses_the_public_api(module: str) -> None:
    """Beside it commands have their display, their errors and the stand-in: a program can do whatever they do."""
    assert set(map(rooms.package, GRAPH[module])) <= {"api", "cli", "errors", "files", "report", "sim", "wording"}


def test_every_package_has_a_floor() -> None:
    """A new package is given its floor before it lands."""
    assert set(map(rooms.package, MODULES)) == {*FLOORS, "sim"}


@pytest.mark.parametrize("module", [name for name in MODULES if rooms.package(name) in PURE])
def test_pure_packages_touch_nothing_outside(module: str) -> None:
    """What these packages answer follows from what they are given: they read no file, no clock and no chance."""
    assert IMPORTS[module] & OUTSIDE == set()


def below_the_engine(module: str) -> bool:
    return FLOORS.get(rooms.package(module), FLOORS["engine"]) < FLOORS["engine"]


@pytest.mark.parametrize(
    "module", [one for one in MODULES if below_the_engine(one) and rooms.package(one) not in WHOLE_JOB]
)
def test_below_the_engine_no_function_takes_the_whole_job(module: str) -> None:
    """Each room is handed the part of a job that it needs: its signature says what it depends on."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            annotations = [ast.unparse(one.annotation) for one in arguments if one.annotation]
            whole = [text for text in annotations if re.search(r"\b(Job|PreparedJob)\b", text)]
            assert whole == [], node.name


def test_every_library_is_in_the_table() -> None:
    """A library that the project takes up is given its place before it lands."""
    outside = {rooms.package(name) for module in MODULES if rooms.package(module) != "sim" for name in IMPORTS[module]}
    assert outside - {"reggen", *sys.stdlib_module_names} <= set(KNOWS)


@pytest.mark.parametrize("library", KNOWS)
def test_a_library_is_known_only_where_it_belongs(library: str) -> None:
    """Each outside thing is owned by one module, so that replacing it touches one file."""
    knowing = {module for module in MODULES if library in map(rooms.package, IMPORTS[module])}
    assert knowing == KNOWS[library]


def test_there_are_no_circles() -> None:
    """No module imports itself, through others or not."""
    assert rooms.circles(GRAPH) == []


def test_the_command_line_starts_without_what_only_its_commands_need() -> None:
    """--help answers at once: the heavy libraries wait for the command that works with them."""
    command = [sys.executable, "-X", "importtime", "-m", "reggen", "--help"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stderr
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in told.splitlines()}
    assert "typer" in imported
    assert imported & {"aiohttp", "websockets", "PIL", "pydantic", "sqlite3", "wakepy"} == set()
