"""Paths in a job: where they are looked for, what is said of those that are not there, and warnings about the root."""

from __future__ import annotations

from pathlib import Path

import pytest

from reggen.errors import JobError
from reggen.job import loader
from reggen.prepare.prepared_job import prepare

JOB = """\
[dataset]
root = "reg"
class = "girl"
count = 3
[sampling]
checkpoint = "base.safetensors"
[prompts]
positive = "a girl with __hat__"
wildcards = "words"
"""


@pytest.fixture
def job_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job file in a folder of its own; the current folder is another."""
    for name in ("jobs", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (file := tmp_path / "jobs" / "job.toml").write_text(JOB, encoding="utf-8")
    return file


def add_words(folder: Path) -> None:
    (folder / "words").mkdir()
    (folder / "words" / "hat.txt").write_text("cap\n", encoding="utf-8")


def test_a_path_is_found_beside_the_job_file_and_that_is_said(job_file: Path) -> None:
    """Where the current folder has none; the plan warns which was taken."""
    add_words(job_file.parent)
    job = loader.load(job_file)
    assert job.prompts.wildcards == job_file.parent / "words"
    (remark,) = job.remarks
    assert remark == (
        f"prompts.wildcards is {job_file.parent / 'words'}, beside the job file: there is none in {Path.cwd()}"
    )
    assert remark in prepare(job, job.source)[0].warnings


def test_a_path_in_the_current_folder_goes_first(job_file: Path) -> None:
    """As ever; nothing is said."""
    add_words(job_file.parent)
    add_words(Path.cwd())
    job = loader.load(job_file)
    assert job.prompts.wildcards == Path("words")
    assert job.remarks == ()


def test_the_root_is_relative_to_the_current_folder_only(job_file: Path) -> None:
    """It is written, and two datasets would be worse than a wrong one."""
    (job_file.parent / "reg").mkdir()
    assert loader.load(job_file).dataset.root == Path("reg")


def test_a_certificate_of_a_server_is_found_beside_the_job_file(job_file: Path) -> None:
    """Tables in a list are searched as well; a server that is only an address is passed over."""
    (job_file.parent / "a.pem").write_text("", encoding="utf-8")
    job_file.write_text(JOB + '[[servers]]\nurl = "https://a"\ncertificate = "a.pem"\n', encoding="utf-8")
    assert loader.load(job_file).servers[0].certificate == job_file.parent / "a.pem"
    job_file.write_text('servers = ["http://a:1"]\n' + JOB, encoding="utf-8")
    assert loader.load(job_file).servers[0].url == "http://a:1"


def test_paths_that_do_not_exist_are_named_with_both_places(job_file: Path) -> None:
    """All at once, absolute, under their keys, in the name of the job file."""
    job_file.write_text(JOB + '[workflow]\nfile = "flow.json"\n', encoding="utf-8")
    (Path.cwd() / "flows.json").touch()
    with pytest.raises(JobError) as caught:
        prepare(loader.load(job_file), str(job_file))
    here, beside = Path.cwd(), job_file.parent
    assert str(caught.value) == (
        f"{job_file} has 2 problems:\n"
        f"  workflow.file: there is no file {here / 'flow.json'}, nor {beside / 'flow.json'} "
        "(did you mean flows.json?)\n"
        f"  prompts.wildcards: there is no folder {here / 'words'}, nor {beside / 'words'}"
    )


def test_a_file_that_cannot_be_used_is_named_with_its_key_and_the_job_file(job_file: Path) -> None:
    """So that nobody has to search for the job that named it."""
    add_words(Path.cwd())
    (flow := Path.cwd() / "flow.json").write_text("{", encoding="utf-8")
    job_file.write_text(JOB + '[workflow]\nfile = "flow.json"\n', encoding="utf-8")
    with pytest.raises(JobError) as caught:
        prepare(loader.load(job_file), str(job_file))
    assert caught.value.file == f"{flow} (workflow.file of {job_file})"


@pytest.mark.parametrize(
    ("root", "warning"),
    [
        ("$HOME/reg", "dataset.root has $HOME, which is not filled in: the images go to {here}/$HOME/reg;"),
        ("${DATA}/reg", "dataset.root has ${{DATA}}, which is not filled in"),
        ("reg/1_girl", "dataset.root ends with 1_girl, a class folder by its name"),
    ],
)
def test_a_root_that_is_surely_a_slip_is_warned_of(job_file: Path, root: str, warning: str) -> None:
    """Names of variables stay as they are, and a class folder would be put into a class folder."""
    add_words(Path.cwd())
    job_file.write_text(JOB.replace('"reg"', f'"{root}"'), encoding="utf-8")
    warnings = prepare(loader.load(job_file), str(job_file))[0].warnings
    assert any(one.startswith(warning.format(here=Path.cwd())) for one in warnings)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://${HOST}:8188", "servers[0].url: ${HOST} is not filled in here"),
        ("http://$HOST:8188", "servers[0].url: $HOST is not filled in here"),
        ("127.0.0.1:8188", "servers[0].url: '127.0.0.1:8188' is not an address; write http://127.0.0.1:8188"),
    ],
)
def test_an_address_that_cannot_work_has_a_remedy(job_file: Path, url: str, problem: str) -> None:
    """A variable is filled in by the shell, not here."""
    job_file.write_text(f'servers = ["{url}"]\n' + JOB, encoding="utf-8")
    with pytest.raises(JobError) as caught:
        loader.load(job_file)
    assert str(caught.value.problems[0]).startswith(problem)
