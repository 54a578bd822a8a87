"""The documents are true, as far as a machine can tell: jobs load, commands, options, keys and files exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from reggen.cli import app
from reggen.errors import BAD_JOB, COMPLETE, INCOMPLETE, NO_SERVER, STOPPED, STORAGE, TIME_UP, JobError
from reggen.job import loader
from tests.style.command_page import draw_commands
from tests.style.drawing import draw
from tests.unit.test_floors import FLOORS

ROOT = Path(__file__).parents[2]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *(f"docs/{file.name}" for file in ROOT.glob("docs/*.md"))]
FOREIGN_OPTIONS = {
    *("--caption_extension", "--caption-extension", "--train_data_dir", "--reg_data_dir", "--dataset_config"),
    *("--resolution", "--bucket_no_upscale", "--num_class_images", "--enable_bucket", "--class_prompt"),
    *("--preview-method", "--dist", "--check", "--draw", "--nights", "--recall", "--quick"),
}
"""Options of trainers, of ComfyUI, of pytest and of our own test tools."""
BASE = """\
[dataset]
root = "reg"
class = "girl"
count = 9
[sampling]
checkpoint = "a.safetensors"
[prompts]
positive = "a girl"
"""
"""A job that the fragments of the documents are added to."""


def read(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(document: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", read(document), re.DOTALL)


def code(document: str) -> list[str]:
    """The pieces of code in the text of a document, without those in blocks."""
    text = re.sub(r"```.*?```", "", read(document), flags=re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


def commands() -> dict[str, set[str]]:
    """The options of each command."""
    group: Any = typer.main.get_command(app)
    return {
        name: {opt for param in command.params for opt in (*param.opts, *param.secondary_opts)}
        for name, command in group.commands.items()
    }


def job_keys() -> dict[str, set[str]]:
    """The keys of each section of a job file, by the schema."""
    schema = loader.schema()

    def resolved(node: dict[str, Any]) -> dict[str, Any]:
        node = node.get("items", node)
        for option in (node, *node.get("anyOf", ()), *node.get("allOf", ())):
            if "$ref" in (option := option.get("items", option)):
                return dict(schema["$defs"][option["$ref"].rpartition("/")[2]])
        return node

    sections = {name: resolved(node).get("properties", {}) for name, node in schema["properties"].items()}
    return {name: set(keys) for name, keys in sections.items()}


def invocations(document: str) -> list[str]:
    """Command lines of reggen in the text and in the shell blocks of a document."""
    lines = [line.partition("#")[0] for block in blocks(document, "sh") for line in block.splitlines()]
    pieces = [piece for line in lines for piece in re.split(r"&&|;|\|", line)]
    pattern = re.compile(r"(?:python -m )?reggen (?=[a-z])(.*)")
    return [found[1] for piece in (*pieces, *code(document)) if (found := pattern.search(piece))]


# ---- commands and options


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_line_has_a_command_and_its_options(document: str) -> None:
    """In the text and in the shell blocks."""
    known = commands()
    for line in invocations(document):
        command, *words = line.split()
        assert command in known, line
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert options <= known[command] | {"--help"}, line


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_option_in_the_text_exists(document: str) -> None:
    """Of some command, or of a foreign program that is named in the test."""
    known = {option for options in commands().values() for option in options} | FOREIGN_OPTIONS | {"--help"}
    found = {option for piece in code(document) for option in re.findall(r"(?<![\w-])--[a-z][\w-]+", piece)}
    assert found <= known


def test_every_command_is_in_the_readme_or_in_operating() -> None:
    """A new command is documented before it lands."""
    text = read("README.md") + read("docs/operating.md") + read("CHANGELOG.md")
    assert [name for name in commands() if not re.search(rf"reggen {name}\b|`{name}`", text)] == []


# ---- job files


def test_the_readme_s_job_files_are_jobs(tmp_path: Path) -> None:
    """They can be copied as they are, and the trainer reads the captions that they write."""
    for block in blocks("README.md", "toml"):
        (file := tmp_path / "job.toml").write_text(block, encoding="utf-8")
        job = loader.load(file)
        if job.training and job.captions.write != "none":  # kohya reads both sets with one --caption_extension
            assert job.captions.extension == job.training.caption_extension


@pytest.mark.parametrize("fragment", blocks("docs/operating.md", "toml"))
def test_fragments_of_job_files_are_valid(fragment: str, tmp_path: Path) -> None:
    """Added to a small job, which has no table that the fragment has."""
    base = BASE
    if "[dataset]" in fragment:
        base = base.replace("[dataset]\n", fragment)
        fragment = ""
    (file := tmp_path / "job.toml").write_text(base + fragment, encoding="utf-8")
    loader.load(file)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_key_in_the_text_exists(document: str) -> None:
    """Sections, section.key, and key = value."""
    known = job_keys()
    keys = set[str]().union(*known.values())
    for piece in code(document):
        if found := re.fullmatch(r"([a-z]+)\.([a-z_]+)(?:\.\w+)?(?: = .*)?", piece):
            section, key = found.groups()
            assert section not in known or key in known[section], piece
        if found := re.fullmatch(r"([a-z_]+) = .+", piece):
            assert found[1] in keys, piece
        for section in re.findall(r"(?<!\[)\[([a-z]+)\]", piece):
            assert section in known, piece


# ---- the rest


def test_the_readme_has_the_line_to_try_it_and_the_line_to_test_it() -> None:
    """With nothing but Python and venv."""
    lines = "".join(blocks("README.md", "sh")).splitlines()
    start = "python3 -m venv .venv && .venv/bin/pip install -q -e "
    assert f"{start}. && .venv/bin/python -m reggen run configs/spyke.toml --rehearse" in lines
    assert f"{start}'.[test]' && .venv/bin/python -m pytest -n auto --dist loadgroup" in lines


def test_contributing_names_the_checks_of_ci() -> None:
    """Each command of the gate is in the page."""
    text = read("CONTRIBUTING.md")
    for command in ("ruff check .", "ruff format --check .", ".venv/bin/mypy", "-m pytest -n auto --dist loadgroup"):
        assert command in text
        assert command in read(".ci/run") + read("README.md")


def test_the_plan_of_the_example_is_the_one_of_the_readme(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 images, reg_001 to reg_100, into the folder that kohya is given."""
    monkeypatch.chdir(ROOT)
    output = CliRunner().invoke(app, ["plan", "configs/spyke.toml"]).stdout
    for text in ("100 images", "1_anime_character", "reg_001.png ... reg_100.png", "512 x 512", "euler_ancestral"):
        assert text in output


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_linked_file_exists(document: str) -> None:
    """No dead links."""
    for target in re.findall(r"\]\(([^)#]+)\)", read(document)):
        assert target.startswith("https://") or (ROOT / document).parent.joinpath(target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_in_the_text_exists(document: str) -> None:
    """Those of the project, by their paths from its root or from the package."""
    for piece in code(document):
        if re.fullmatch(r"[\w./-]+/[\w-]+\.(py|toml|md)", piece):
            assert (ROOT / piece).exists() or (ROOT / "reggen" / piece).exists(), piece


def test_the_design_draws_the_floors_as_they_are() -> None:
    """Every package on its own floor."""
    drawn: dict[str, int] = {}
    for line in re.findall(r"^    (\d+  .+)$", read("docs/design.md"), re.MULTILINE):
        number, *names, _ = re.split(r" {2,}", line)
        drawn |= dict.fromkeys(names, int(number))
    assert drawn == {name: floor for name, floor in FLOORS.items() if name != "__main__"}


def test_the_design_lists_the_modules_as_they_are() -> None:
    """With the first sentence of each docstring; `python -m tests.style --draw` writes the list."""
    design = read("docs/design.md")
    assert draw(design, ROOT / "reggen") == design


def test_the_page_of_the_command_line_says_what_help_says() -> None:
    """Every command and option in the words of --help; `python -m tests.style --draw` writes them."""
    page = read("docs/cli.md")
    assert draw_commands(page) == page


@pytest.mark.parametrize("command", [None, *commands()])
def test_help_has_room_on_80_columns(command: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No first line is cut, no line is longer, and each option says what it does."""
    monkeypatch.setenv("COLUMNS", "80")
    lines = CliRunner().invoke(app, [*([command] if command else []), "--help"]).stdout.splitlines()
    assert [line for line in lines if line.endswith("...") and not line.startswith("Usage: ")] == []
    assert max(map(len, lines)) <= 80
    if command:
        group: Any = typer.main.get_command(app)
        assert [param.name for param in group.commands[command].params if not param.help] == []


def test_the_exit_codes_are_those_of_the_page() -> None:
    """Each code that a command can return has its line."""
    codes = [int(code) for code in re.findall(r"^\| (\d+) \|", read("docs/cli.md"), re.MULTILINE)]
    assert codes == [COMPLETE, INCOMPLETE, BAD_JOB, TIME_UP, NO_SERVER, STORAGE, STOPPED]


def test_a_wrong_job_is_reported_without_a_traceback(tmp_path: Path) -> None:
    """The command raises JobError and nothing else; main() prints it and exits with 2."""
    result = CliRunner().invoke(app, ["run", str(tmp_path / "none.toml")])
    assert isinstance(result.exception, JobError)
