"""Output for programs: --json of plan, check and config; --quiet of run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from reggen.cli import app

JOB = """\
[dataset]
root = '{root}'
class = "girl"
count = 3
[[servers]]
url = "http://127.0.0.1:9"
[sampling]
checkpoint = "a.safetensors"
width = 64
height = 64
[prompts]
positive = "a girl"
"""


@pytest.fixture
def job_file(tmp_path: Path) -> str:
    (file := tmp_path / "job.toml").write_text(JOB.format(root=tmp_path / "reg"), encoding="utf-8")
    return str(file)


def output(*words: str) -> tuple[int, Any]:
    result = CliRunner().invoke(app, [*words, "--json"])
    return result.exit_code, json.loads(result.stdout)


def test_a_plan_as_json_has_counts_folders_and_warnings(job_file: str, tmp_path: Path) -> None:
    """One entry for each class."""
    folder = str(tmp_path / "reg" / "1_girl")
    assert output("plan", job_file) == (
        0,
        {"count": 3, "classes": [{"class": "girl", "folder": folder, "count": 3}], "warnings": []},
    )


def test_a_check_as_json_has_the_verdict_and_each_server(job_file: str) -> None:
    """The exit code is the same as without."""
    code, found = output("check", job_file)
    assert (code, found["ready"], found["servers"][0]["server"]) == (4, False, "127.0.0.1:9")
    assert found["verdict"].startswith("Cannot run: no server answers: 127.0.0.1:9 (connection refused")


def test_settings_as_json_have_text_and_hints(job_file: str) -> None:
    """Hints have a place of their own."""
    code, found = output("config", job_file, "--for", "kohya")
    assert code == 0
    assert "--reg_data_dir" in found["text"]
    assert isinstance(found["hints"], list)


def test_a_quiet_run_prints_nothing(job_file: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The images are made, and the exit code says how it went."""
    words = ["run", job_file, "--rehearse", "--quiet", "--output", str(tmp_path / "other")]
    result = CliRunner().invoke(app, words)
    assert (result.exit_code, result.stdout) == (0, "")
    assert len([*(tmp_path / "other").rglob("*.png")]) == 3
    assert capfd.readouterr().out == ""
