"""Every `python -m tests...` starts, and the documents call each with options that it has."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.style.figures import ROOT

COMMAND = re.compile(r"python -m (tests(?:\.\w+)+)([^`\n#]*)")

Help = Callable[[str], str]


def files() -> dict[str, Path]:
    """The commands by their names, and the file of each."""
    found = {}
    for file in sorted(
        file for folder in ("bench", "chaos", "style") for file in (ROOT / "tests" / folder).glob("*.py")
    ):
        if 'ArgumentParser(prog="python -m ' in file.read_text(encoding="utf-8"):
            name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__main__")] = file
    return found


FILES = files()


def documented() -> list[tuple[str, str]]:
    """The commands that the documents and the commands' own docstrings name, with their arguments."""
    texts = [file.read_text(encoding="utf-8") for file in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))]
    texts += [ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "" for file in FILES.values()]
    return [(name, words) for text in texts for name, words in COMMAND.findall(text)]


@pytest.fixture
def help_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Help:
    """The output of a command's --help."""

    def ask(name: str) -> str:
        module = f"{name}.__main__" if FILES[name].name == "__main__.py" else name
        monkeypatch.setattr(sys, "argv", [name, "--help"])
        with pytest.raises(SystemExit) as left:
            importlib.import_module(module).main()
        assert left.value.code == 0
        return capsys.readouterr().out

    return ask


@pytest.mark.parametrize("name", FILES)
def test_every_command_starts(name: str, help_of: Help) -> None:
    """--help names the command as it is typed."""
    assert f"python -m {name} " in help_of(name)


@pytest.mark.parametrize(("name", "words"), documented())
def test_documented_commands_have_their_options(name: str, words: str, help_of: Help) -> None:
    """What a document says can be typed."""
    if name == "tests.bench.watched":
        return  # it takes the words of `reggen run`, and has no options of its own
    text = help_of(name)
    assert all(option in text for option in re.findall(r"--[a-z][a-z-]*", words)), text
