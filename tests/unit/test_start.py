"""The first file that Python reads: it answers in a sentence wherever it is started."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from reggen.__main__ import OLDEST

ROOT = Path(__file__).parents[2]
FIRST = ("reggen/__init__.py", "reggen/__main__.py")
AS_IF_OLD = """
import runpy, sys
sys.version_info = (3, 10, 13, "final", 0)
runpy.run_module("reggen", run_name="__main__")
"""


def said(*command: str) -> str:
    """What a start that cannot succeed says; it has an exit code of its own, and no traceback."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("reggen: ")
    assert "-m reggen" in done.stderr or "-m pip install" in done.stderr, "what to do next is missing"
    return done.stderr


@pytest.mark.parametrize("version", [(3, 8), (3, 9), (3, 10)])
@pytest.mark.parametrize("file", FIRST)
def test_older_pythons_can_read_it(file: str, version: tuple[int, int]) -> None:
    """Or they would end in a syntax error before they could say that they are too old."""
    ast.parse((ROOT / file).read_text(encoding="utf-8"), feature_version=version)


def test_python_2_can_read_it() -> None:
    """It knows neither annotations nor formatted texts, and no letter that is not ASCII."""
    for file in FIRST:
        text = (ROOT / file).read_bytes().decode("ascii")
        for node in ast.walk(ast.parse(text)):
            assert not isinstance(node, ast.JoinedStr | ast.AnnAssign | ast.AsyncFunctionDef | ast.NamedExpr), node
            assert not (isinstance(node, ast.FunctionDef) and node.returns), ast.unparse(node)
            assert not (isinstance(node, ast.arg) and node.annotation), ast.unparse(node)


def test_the_folder_runs_as_the_package_does() -> None:
    """`python reggen` is what somebody types who stands in the checkout."""
    done = subprocess.run(
        [sys.executable, "reggen", "--version"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.split()[:1]) == (0, ["reggen"]), done.stderr
    assert "lacks what reggen needs: No module named 'typer'" in said(sys.executable, "-S", "-E", "reggen", "--help")


def test_it_asks_for_what_the_project_asks_for() -> None:
    """One oldest Python, said in two places."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == f">={OLDEST[0]}.{OLDEST[1]}"


def test_an_old_python_is_told_so() -> None:
    """With what it is, and how to make an environment with a newer one."""
    text = said(sys.executable, "-c", AS_IF_OLD)
    assert f"it needs Python 3.11 or newer; {sys.executable} is 3.10.13." in text
    assert "python3.11 -m venv .venv" in text


@pytest.mark.parametrize("python", ["python3.8", "python3.9", "python3.10"])
def test_a_real_old_python_is_told_so(python: str) -> None:
    """The same with one that is installed here."""
    found = shutil.which(python)
    if not found or subprocess.run([found, "-V"], capture_output=True, check=False).returncode:
        pytest.skip(f"{python} is not here")
    assert "it needs Python 3.11 or newer" in said(found, "-m", "reggen", "plan", "configs/spyke.toml")


def test_a_python_without_its_packages_is_told_so() -> None:
    """Outside the environment that it is installed in: which package is missing, and where it would run."""
    assert "lacks what reggen needs: No module named 'typer'" in said(sys.executable, "-S", "-m", "reggen", "--help")


def test_a_package_that_is_missing_later_is_told_in_the_same_way() -> None:
    """Most are loaded only when a command works with them."""
    program = 'import sys; sys.modules["pydantic"] = None; sys.argv = ["reggen", "plan", "configs/spyke.toml"]\n'
    program += 'import runpy; runpy.run_module("reggen", run_name="__main__")'
    assert "lacks what reggen needs: import of pydantic halted" in said(sys.executable, "-c", program)
