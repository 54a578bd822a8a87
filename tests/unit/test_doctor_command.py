"""The doctor command: its options, its words and its exit code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from reggen.api.commands import run_again
from reggen.cli import app
from reggen.dataset.ledger import Ledger
from reggen.errors import JobError
from reggen.job.loader import load
from reggen.prepare.prepared_job import prepare
from tests.pictures import paint, tear, write
from tests.reg_sets import (
    GIRL,
    build_set,
    record_set,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return build_set(tmp_path)


@pytest.fixture
def made(root: Path) -> Path:
    return record_set(root)


def run(*arguments: object) -> Result:
    options = ["--resolution", "64", "--min-bucket-reso", "64"]
    return CliRunner().invoke(app, ["doctor", *map(str, arguments), *options])


def test_the_command_returns_whether_all_is_well(root: Path) -> None:
    """0 or 1; with --fix, what is left decides."""
    sound = run(root / "reg", "--train", root / "train")
    assert (sound.exit_code, "All is well." in sound.stdout) == (0, True)
    write(root / GIRL / "x.part", b"")
    assert run(root / "reg", "--train", root / "train").exit_code == 1
    fixed = run(root / "reg", "--train", root / "train", "--fix")
    assert fixed.exit_code == 0
    assert "removed" in fixed.stdout


def test_the_command_gives_json_and_nothing_else(root: Path) -> None:
    """On stdout, whatever --fix does."""
    write(root / GIRL / "x.part", b"")
    assert json.loads(run(root / "reg", "--json", "--fix").stdout)["well"] is True


def a_job(root: Path, more: str = "") -> Path:
    """A job that fills the set with the class girl; ``more`` are sections of its file."""
    return write(
        root / "job.toml",
        f"""
        [dataset]
        root = "{(root / "reg").as_posix()}"
        class = "girl"
        count = 4
        [sampling]
        checkpoint = "a.safetensors"
        [prompts]
        positive = "a girl"
        {more}
        """,
    )


def by_folder(root: Path, more: str = "") -> str:
    """A training section for `a_job`, of the train folder."""
    return f'[training]\nfolder = "{(root / "train").as_posix()}"\nresolution = 64\nmin_bucket_reso = 64\n{more}'


def test_images_that_fix_took_out_are_missing_and_it_says_what_is_next(root: Path) -> None:
    """All is not well then: the set is smaller than the job wants it, until the job has run."""
    tear(root / GIRL / "reg_002.png", 0.5)
    write(root / GIRL / "reg_003.png", b"")
    said = run(job := a_job(root), "--fix")
    assert said.exit_code == 1
    assert said.stdout.splitlines()[-1].endswith(f"2 images were taken out, and are missing now. Next: {again(job)}")
    assert "All is well" not in said.stdout
    assert run(job, "--fix").exit_code == 0, "what is missing is no fault of the images that are there"


def test_what_fix_took_out_is_reported_to_programs_and_of_plain_folders(root: Path) -> None:
    """Where no job is known the command is not, either; a rehearsal goes on as one."""
    write(root / GIRL / "reg_003.png", b"")
    result = run(root / "reg", "--json", "--fix")
    assert (result.exit_code, json.loads(result.stdout)["taken_out"]) == (1, 1)
    assert "run the job that fills this folder again" in result.stderr
    write(root / GIRL / "reg_002.png", b"")
    state = root / "reg" / ".reggen" / "1_girl"
    with Ledger.open(state) as ledger:
        ledger.facts.put({"rehearsal": True})
    assert f"{again(a_job(root))} --rehearse" in run(root / "job.toml", "--fix").stdout


def test_before_the_first_run_the_doctor_says_so(root: Path) -> None:
    """There is nothing to be examined yet, and nothing wrong with the job."""
    done = CliRunner().invoke(app, ["doctor", str(job := a_job(root)), "--output", str(root / "nothere")])
    assert isinstance(done.exception, JobError)
    assert f"run it first: python -m reggen run {job} --output" in str(done.exception)
    assert str(done.exception).startswith(str(job))


def test_a_forbidden_word_that_is_none_is_reported_with_where_it_stands(root: Path) -> None:
    """In the job's file, or on the command line."""
    job = a_job(root, '[guard]\nforbid = ["!!!"]')
    for typed, where in (([str(job)], str(job)), ([str(root / "reg"), "--forbid", "!!!"], "the command line")):
        done = CliRunner().invoke(app, ["doctor", *typed])
        assert isinstance(done.exception, JobError)
        assert str(done.exception).startswith(f"{where} has one problem:")


def again(job: Path) -> str:
    """The command that runs a job, for this system's shell."""
    return run_again(load(job), rehearsal=False)


def ask(*arguments: object) -> dict[str, Any]:
    """What the doctor says to a command line, for programs."""
    done = CliRunner().invoke(app, ["doctor", *map(str, arguments), "--json"])
    assert not isinstance(done.exception, Exception), done.exception
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_the_command_takes_a_job(root: Path) -> None:
    """Its root is the folder, and its class folder the only one it expects."""
    job = a_job(root)
    assert run(job).exit_code == 0
    paint(root / "reg" / "1_boy" / "a.png")
    assert "the job does not make it" in run(job).stdout


def test_the_command_says_how_damaged_images_are_made_again(made: Path) -> None:
    """By the job and the numbers, as they are to be typed."""
    with Ledger.open(made / "reg" / ".reggen" / "1_girl") as ledger:
        rows = [replace(row, sha256="00" * 32) for row in ledger.slots.walk("done") if row.idx]
        ledger.slots.put(rows)
    said = run(job := a_job(made))
    assert said.exit_code == 1
    assert f"python -m reggen redo {job} 2 3" in " ".join(said.stdout.split())


@pytest.mark.parametrize(
    ("options", "key", "value"),
    [
        ((), "resolution", [64, 64]),
        (("--resolution", "128,192"), "resolution", [128, 192]),
        ((), "enable_bucket", True),
        (("--no-bucket",), "enable_bucket", False),
        (("--max-bucket-reso", "640"), "max_bucket_reso", 640),
        (("--bucket-reso-steps", "32"), "bucket_reso_steps", 32),
        ((), "bucket_no_upscale", True),
        (("--bucket-upscale",), "bucket_no_upscale", False),
    ],
)
def test_options_go_over_what_the_job_says(root: Path, options: tuple[str, ...], key: str, value: object) -> None:
    """Each by itself: the others stay the job's, its training set too."""
    result = ask(a_job(root, by_folder(root, "bucket_no_upscale = true")), *options)["datasets"][0]
    assert result[key] == value
    assert result["min_bucket_reso"] == 64
    assert result["train_slots"] == 4


def test_the_caption_ending_of_the_command_line_goes_over_the_jobs(root: Path) -> None:
    """The job's own is that of its training set, else that of the captions it writes."""
    job = a_job(root, by_folder(root, 'caption_extension = ".txt"'))
    assert ask(job)["folders"][0]["caption_extension"] == ".txt"
    assert ask(job, "--caption-extension", ".caption")["folders"][0]["caption_extension"] == ".caption"
    job = a_job(root, '[captions]\nwrite = "class"\nextension = ".txt"')
    assert ask(job)["folders"][0]["caption_extension"] == ".txt"


def test_forbidden_words_of_the_command_line_add_to_the_jobs(root: Path) -> None:
    """Each of the two is found."""
    job = a_job(root, '[guard]\nforbid = ["bandana"]')
    write(root / GIRL / "reg_000.caption", "a bandana")
    write(root / GIRL / "reg_001.caption", "a cloak")
    result = {Path(file).name for one in ask(job, "--forbid", "cloak")["findings"] for file in one["files"]}
    assert result == {"reg_000.caption", "reg_001.caption"}


def test_an_output_belongs_to_a_job(root: Path) -> None:
    """A folder is named already: it is not dropped in silence."""
    with pytest.raises(JobError, match="goes with a job"):
        CliRunner().invoke(app, ["doctor", str(root / "reg"), "--output", "x"], catch_exceptions=False)


@pytest.mark.parametrize(
    ("general", "training", "option", "buckets"),
    [
        ("", "", (), False),
        ("enable_bucket = true", "", (), True),
        ("", "enable_bucket = true", ("--bucket",), True),
        ("enable_bucket = false", "enable_bucket = true", ("--bucket",), False),
    ],
)
def test_a_config_decides_on_buckets_for_plan_job_and_folder_alike(
    root: Path, general: str, training: str, option: tuple[str, ...], buckets: bool
) -> None:
    """kohya's rule: what the config says; where it is silent the command line, whose default is none."""
    config = write(
        root / "dataset.toml",
        f"""
        [general]
        resolution = 64
        min_bucket_reso = 64
        {general}
        [[datasets]]
        [[datasets.subsets]]
        image_dir = "{root.as_posix()}/train/2_spyke girl"
        num_repeats = 2
        [[datasets.subsets]]
        image_dir = "{root.as_posix()}/{GIRL}"
        class_tokens = "girl"
        is_reg = true
        """,
    )
    job = a_job(root, f'[training]\nconfig = "{config.as_posix()}"\n{training}')
    (prepared,) = prepare(load(job), str(job))
    assert prepared.training_set is not None
    assert prepared.training_set.bucketing.enabled is buckets
    assert ask(job)["datasets"][0]["enable_bucket"] is buckets
    assert ask(root / "reg", "--config", config, *option)["datasets"][0]["enable_bucket"] is buckets


def test_a_resolution_that_is_none_is_reported(root: Path) -> None:
    """In words."""
    result = CliRunner().invoke(app, ["doctor", str(root / "reg"), "--resolution", "big"])
    assert isinstance(result.exception, JobError)
