"""What trainers are told: read back by the parser each of them uses, and compared value by value."""

from __future__ import annotations

import json
import shlex
import tomllib
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from reggen.cli import app
from reggen.errors import JobError
from reggen.job.models import Job, Training
from reggen.prepare.prepared_job import prepare
from reggen.report.trainer import TRAINERS, section
from reggen.report.trainer_input import ClassFolder, TrainerInput, asked
from tests.pictures import paint

ODD = PurePosixPath('/sets/it\'s "mine" & {x}: #1 \\ $HOME 少女 😀\x7f\xa0/reg')
GIRL = ClassFolder(ODD / "1_anime girl", "anime girl", 1, 120)
BOY = ClassFolder(ODD / "3_boy's_own: #2", "boy's_own: #2", 3, 40)
TRAINING = Training(folder=Path("train"), resolution=(512, 768), min_bucket_reso=320, bucket_no_upscale=True)
PLAIN = TrainerInput((GIRL, BOY), windows=False)
TOLD = replace(PLAIN, captions=".txt", training=TRAINING)
TRAIN = ClassFolder(PurePosixPath("/sets/train/10_spyke"), "spyke", 10, 0)


def options(text: str) -> dict[str, str | None]:
    """A command line's options with their values; None for those without."""
    words, found = shlex.split(text), dict[str, str | None]()
    while words:
        name = words.pop(0)
        assert name.startswith("--"), name
        found[name] = words.pop(0) if words and not words[0].startswith("--") else None
    return found


def comments(text: str) -> str:
    return " ".join(line for line in text.splitlines() if line.lstrip().startswith("#"))


# ---- kohya


def test_kohya_is_given_the_folder_above_the_class_folders() -> None:
    """Once, whatever the number of classes; where no captions are written the class tokens are named."""
    found = section("kohya", PLAIN)
    assert options(found.text) == {"--reg_data_dir": str(ODD)}
    assert "'anime girl'" in found.hints[0]


def test_kohya_is_given_what_the_job_says_of_captions_and_buckets() -> None:
    """By the names of its command line; what is off is left out."""
    assert options(section("kohya", TOLD).text) == {
        "--reg_data_dir": str(ODD),
        "--caption_extension": ".caption",
        "--resolution": "512,768",
        "--enable_bucket": None,
        "--min_bucket_reso": "320",
        "--max_bucket_reso": "1024",
        "--bucket_reso_steps": "64",
        "--bucket_no_upscale": None,
    }
    cut = Training(folder=Path("train"), resolution=768, enable_bucket=False)
    assert set(options(section("kohya", replace(PLAIN, training=cut)).text)) == {"--reg_data_dir", "--resolution"}


@pytest.mark.parametrize(("theirs", "ours"), [(".caption", ".txt"), (".txt", ".caption")])
def test_kohya_reads_one_ending_for_both_sets(theirs: str, ours: str) -> None:
    """So the training set's is printed, whose captions weigh more, and a job that writes another is told of it."""
    training = TRAINING.model_copy(update={"caption_extension": theirs})
    found = section("kohya", replace(TOLD, captions=ours, training=training))
    assert options(found.text)["--caption_extension"] == theirs
    (hint,) = found.hints
    assert f"theirs is {theirs}" in hint
    assert f'extension = "{theirs}" in the job' in hint
    same = section("kohya", replace(TOLD, captions=theirs, training=training))
    assert (options(same.text)["--caption_extension"], same.hints) == (theirs, ())


def test_with_a_dataset_config_kohya_ignores_the_command_line() -> None:
    """The config has its own options, so none are repeated, and the user is sent to it."""
    found = section("kohya", replace(TOLD, training=Training(config=Path("dataset.toml"))))
    assert set(options(found.text)) == {"--reg_data_dir", "--caption_extension"}
    assert "kohya-toml" in " ".join(found.hints)


@pytest.mark.parametrize(
    ("root", "word"),
    [("C:\\my sets\\reg & more", '"C:\\my sets\\reg & more"'), ("D:\\", '"D:\\\\"')],
)
def test_on_windows_words_are_in_double_quotes(root: str, word: str) -> None:
    """A backslash at the end is doubled, or it would take the closing quote away."""
    served = ClassFolder(PureWindowsPath(root) / "1_girl", "girl", 1, 9)
    told = section("kohya", TrainerInput((served,), training=TRAINING, windows=True)).text
    assert told.startswith(f"--reg_data_dir {word} ")
    assert '--resolution "512,768"' in told  # PowerShell would make two words of it


def test_kohya_s_toml_is_the_reg_part_where_the_training_set_is_not_known() -> None:
    """No [[datasets]] of its own: there would be no train images in it, and so no reg image would be used."""
    for what in (PLAIN, replace(PLAIN, training=Training(config=Path("dataset.toml")))):
        text = section("kohya-toml", what).text
        assert "[[datasets]]" not in text.splitlines()
        assert tomllib.loads(text) == {
            "datasets": {
                "subsets": [
                    {
                        "is_reg": True,
                        "image_dir": str(one.folder),
                        "num_repeats": one.repeats,
                        "class_tokens": one.words,
                    }
                    for one in (GIRL, BOY)
                ]
            }
        }
        assert "class tokens" in comments(text)


def test_kohya_s_toml_is_whole_where_the_training_folder_is_known() -> None:
    """The train folders with their own ending, then the reg folders with theirs, under one [[datasets]]."""
    (entry,) = tomllib.loads(section("kohya-toml", replace(TOLD, train=(TRAIN,))).text)["datasets"]
    subsets = entry.pop("subsets")
    assert entry == {
        "resolution": [512, 768],
        "enable_bucket": True,
        "min_bucket_reso": 320,
        "max_bucket_reso": 1024,
        "bucket_reso_steps": 64,
        "bucket_no_upscale": True,
    }
    assert [one.get("is_reg", False) for one in subsets] == [False, True, True]
    assert [one["caption_extension"] for one in subsets] == [".caption", ".txt", ".txt"]
    assert subsets[0]["image_dir"] == "/sets/train/10_spyke"


# ---- the others


def test_ai_toolkit_is_given_entries_of_its_datasets() -> None:
    """Under no key of their own: a second `datasets:` would take the place of the first."""
    assert yaml.safe_load(section("ai-toolkit", TOLD).text) == [
        {
            "folder_path": str(one.folder),
            "is_reg": True,
            "num_repeats": one.repeats,
            "default_caption": one.words,
            "caption_ext": "txt",
            "resolution": 627,
            "bucket_tolerance": 64,
        }
        for one in (GIRL, BOY)
    ]
    bare = section("ai-toolkit", PLAIN).text
    assert set(yaml.safe_load(bare)[0]) == {"folder_path", "is_reg", "num_repeats", "default_caption"}
    assert "default_caption" in comments(bare)


def test_simpletuner_counts_the_times_after_the_first() -> None:
    """So its repeats are one less; each backend has an id of its own; only .txt captions are read."""
    found = json.loads(section("simpletuner", TOLD).text)
    assert found[1] == {
        "id": "reg-boy's_own: #2",
        "type": "local",
        "instance_data_dir": str(BOY.folder),
        "caption_strategy": "textfile",
        "repeats": 2,
        "is_regularisation_data": True,
        "resolution": 627,
        "resolution_type": "pixel_area",
    }
    for what in (PLAIN, replace(TOLD, captions=".caption")):
        section_ = section("simpletuner", what)
        entry = json.loads(section_.text)[0]
        assert (entry["caption_strategy"], entry["instance_prompt"]) == ("instanceprompt", "anime girl")
        assert ".txt only" in " ".join(section_.hints)


def test_onetrainer_is_given_prior_prediction_concepts() -> None:
    """Of the version it writes itself; seeds are fixed, since new ones would make its caches anew at every start."""
    found = json.loads(section("onetrainer", TOLD).text)
    assert found[0] == {
        "__version": 2,
        "name": "anime girl",
        "path": str(GIRL.folder),
        "seed": 0,
        "enabled": True,
        "type": "PRIOR_PREDICTION",
        "include_subdirectories": False,
        "balancing": 1.0,
        "balancing_strategy": "REPEATS",
        "text": {"prompt_source": "sample"},
        "image": {"enable_resolution_override": True, "resolution_override": "627"},
    }
    assert "image" not in json.loads(section("onetrainer", PLAIN).text)[0]
    assert "an empty prompt" in " ".join(section("onetrainer", PLAIN).hints)


def test_onetrainer_is_told_the_very_size_where_there_are_no_buckets() -> None:
    """As width x height."""
    training = TRAINING.model_copy(update={"enable_bucket": False})
    found = json.loads(section("onetrainer", replace(TOLD, training=training)).text)
    assert found[0]["image"]["resolution_override"] == "512x768"


def test_diffusers_is_given_the_class_folder_and_all_its_images() -> None:
    """It generates what it believes is missing, so the number is the whole count; one line for each class."""
    square = replace(PLAIN, training=Training(folder=Path("train"), resolution=768))
    found = section("diffusers", square)
    assert [options(line) for line in found.text.splitlines()] == [
        {
            "--with_prior_preservation": None,
            "--class_data_dir": str(one.folder),
            "--class_prompt": one.words,
            "--num_class_images": str(one.count),
            "--resolution": "768",
        }
        for one in (GIRL, BOY)
    ]
    assert "every entry" in found.hints[0]
    assert "one class" in found.hints[1]


def test_diffusers_opens_every_file_as_an_image() -> None:
    """So captions and a metadata.jsonl among the images are warned of."""
    hints = section("diffusers", replace(TOLD, served=(GIRL,), listed=True)).hints
    assert ".txt files and metadata.jsonl" in hints[-1]
    assert len(section("diffusers", replace(PLAIN, served=(GIRL,))).hints) == 1


@pytest.mark.parametrize("trainer", ["simpletuner", "onetrainer"])
def test_json_is_ascii(trainer: str) -> None:
    """On Windows these trainers read it in the system's code page."""
    assert section(trainer, TOLD).text.isascii()


@pytest.mark.parametrize("trainer", [None, "", "Kohya", "comfyui"])
def test_an_unknown_trainer_is_answered_with_those_there_are(trainer: str | None) -> None:
    """In a sentence, whether it was left out or misspelled."""
    with pytest.raises(JobError) as caught:
        section(trainer, PLAIN)
    assert all(name in str(caught.value) for name in TRAINERS)


# ---- from a job


def a_job(root: Path, **more: Any) -> dict[str, Any]:
    return {
        "dataset": {"root": str(root), "count": 9, "repeats": 2},
        "sampling": {"checkpoint": "anime.safetensors"},
        "prompts": {"positive": "a person"},
        "class": [{"words": "girl", "share": 2}, {"words": "boy"}],
    } | more


def test_a_job_tells_each_class_with_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Absolute folders, whatever the job has; the count is the class's own."""
    monkeypatch.chdir(tmp_path)
    what = asked(prepare(Job.model_validate(a_job(Path("my reg"))), "a.toml"))
    assert what.served == (
        ClassFolder(tmp_path / "my reg" / "2_girl", "girl", 2, 6),
        ClassFolder(tmp_path / "my reg" / "2_boy", "boy", 2, 3),
    )
    assert (what.captions, what.training, what.train, what.listed) == (None, None, (), False)


def test_a_job_tells_its_train_folders_and_captions(tmp_path: Path) -> None:
    """The folders as kohya reads them, in the order of their names; what is no class folder is left out."""
    for name in ("3_b", "10_a", "notes"):
        paint(tmp_path / "train" / name / "1.png")
    job = a_job(
        tmp_path / "reg",
        training={"folder": str(tmp_path / "train"), "resolution": 256, "min_bucket_reso": 64},
        captions={"write": "class", "extension": ".txt"},
    )
    what = asked(prepare(Job.model_validate(job), "a.toml"))
    assert [(one.folder.name, one.words, one.repeats) for one in what.train] == [("10_a", "a", 10), ("3_b", "b", 3)]
    assert what.captions == ".txt"


@pytest.mark.parametrize("trainer", TRAINERS)
def test_the_command_prints_the_section_and_nothing_else(trainer: str, tmp_path: Path) -> None:
    """Hints go to stderr, so that the output can be redirected into a file."""
    file = tmp_path / "job.toml"
    file.write_text(
        f'[dataset]\nroot = "{(tmp_path / "reg").as_posix()}"\nclass = "girl"\ncount = 4\n'
        '[sampling]\ncheckpoint = "a.safetensors"\n[prompts]\npositive = "a girl"\n',
        encoding="utf-8",
    )
    done = CliRunner().invoke(app, ["config", str(file), "--for", trainer])
    assert done.exit_code == 0
    what = TrainerInput((ClassFolder(tmp_path / "reg" / "1_girl", "girl", 1, 4),))
    assert done.stdout == section(trainer, what).text
    assert list(done.stderr.splitlines()) == list(section(trainer, what).hints)


def test_the_command_s_help_names_every_trainer() -> None:
    """There is nothing to guess."""
    said = " ".join(CliRunner().invoke(app, ["config", "--help"], terminal_width=200).stdout.split())
    assert all(name in said for name in TRAINERS)
