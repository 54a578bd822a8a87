"""What the documents say is true, as far as a machine can tell."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reggen.cli import app
from reggen.errors import JobError
from reggen.job import loader

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", README, re.DOTALL)


def test_the_readme_s_job_files_are_jobs(tmp_path: Path) -> None:
    """They can be copied as they stand, and the trainer reads the captions that they ask for."""
    for block in blocks("toml"):
        (file := tmp_path / "job.toml").write_text(block, encoding="utf-8")
        job = loader.load(file)
        if job.training and job.captions.write != "none":  # kohya reads both sets with one --caption_extension
            assert job.captions.extension == job.training.caption_extension


def test_the_readme_s_two_lines_stand_as_they_are_promised() -> None:
    """One to try it, one to test it, with nothing but Python and venv."""
    lines = "".join(blocks("sh")).splitlines()
    start = "python3 -m venv .venv && .venv/bin/pip install -q -e "
    assert f"{start}. && .venv/bin/python -m reggen run configs/spyke.toml --rehearse" in lines
    assert f"{start}'.[test]' && .venv/bin/python -m pytest -n auto --dist loadgroup" in lines


@pytest.mark.parametrize("command", re.findall(r"python -m reggen (\w+)", README))
def test_every_command_the_readme_names_exists(command: str) -> None:
    """And can be asked for help."""
    assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0


def test_the_plan_of_the_example_is_the_seed_s_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 images, reg_001 to reg_100, into the folder that kohya was given."""
    monkeypatch.chdir(ROOT)
    said = CliRunner().invoke(app, ["plan", "configs/spyke.toml"]).stdout
    for words in ("100 images", "1_anime_character", "reg_001.png ... reg_100.png", "512 x 512", "euler_ancestral"):
        assert words in said


def test_every_file_the_readme_points_to_is_there() -> None:
    """No dead links."""
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_room_of_the_design_exists() -> None:
    """The picture of the house agrees with the house."""
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    for name in re.findall(r"^    (\S+\.py)", design, re.MULTILINE):
        assert (ROOT / "reggen" / name).exists(), name


def test_a_wrong_job_is_told_without_a_traceback(tmp_path: Path) -> None:
    """The command raises JobError and nothing else; main() turns it into words and exit 2."""
    result = CliRunner().invoke(app, ["run", str(tmp_path / "none.toml")])
    assert isinstance(result.exception, JobError)
