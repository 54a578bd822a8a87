"""The names of the package: what a program sees of it, and what importing it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import reggen

ROOT = Path(__file__).parents[2]
INIT = ast.parse((ROOT / "reggen" / "__init__.py").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", reggen.__all__)
def test_every_public_name_can_be_used(name: str) -> None:
    """It is imported when it is asked for, and found by `dir`."""
    assert getattr(reggen, name) is not None
    assert name in dir(reggen)


def test_type_checkers_see_the_same_names() -> None:
    """They read the imports, Python a table; both have all names, from the same modules."""
    imported = {
        (alias.name, node.module) for node in ast.walk(INIT) if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    homes = {(name, module) for module, names in reggen._HOMES.items() for name in names}  # type: ignore[attr-defined]
    assert imported == homes
    assert {name for name, _ in homes} | {"__version__"} == set(reggen.__all__)


def test_no_name_hides_a_module() -> None:
    """Python sets a submodule as an attribute of its package, so a function of the same name would be lost."""
    modules = {file.stem for file in (ROOT / "reggen").iterdir() if file.suffix == ".py" or file.is_dir()}
    assert modules & set(reggen.__all__) == set()


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As for any module."""
    with pytest.raises(AttributeError, match="module 'reggen' has no attribute 'lode'"):
        reggen.lode  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize(
    ("program", "loaded"),
    [("import reggen", {"reggen"}), ("import reggen; reggen.JobError", {"reggen", "reggen.errors"})],
)
def test_importing_the_package_loads_nothing_else(program: str, loaded: set[str]) -> None:
    """A name loads what it needs, when it is first used."""
    program += "; import sys; print(*(name for name in sys.modules if name.startswith('reggen')))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == loaded


def test_the_version_is_the_project_s() -> None:
    """It is written in one place, which the build reads."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "reggen.__version__"}
    assert reggen.__version__.split(".")[0].isdecimal()


def test_the_types_of_the_api_are_exact() -> None:
    """A program that uses all of it passes mypy's strictest checks, and sees the type that each place says."""
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "tests/typed/api.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout
