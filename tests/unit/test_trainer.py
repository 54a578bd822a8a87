"""Trainer settings, read back by the parser that each trainer uses and compared value by value."""

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
from reggen.report.shell import shell_word
from reggen.report.trainer_input import ClassFolder, TrainerInput, trainer_input
from reggen.report.trainers import TRAINERS, trainer_settings
from tests.pictures import paint

ODD = PurePosixPath('/sets/it\'s "mine" & {x}: #1 \\ $HOME 少女 😀\x7f\xa0/reg')
GIRL = ClassFolder(ODD / "1_anime girl", "anime girl", 1, 120)
BOY = ClassFolder(ODD / "3_boy's_own: #2", "boy's_own: #2", 3, 40)
TRAINING = Training(folder=Path("train"), resolution=(512, 768), min_bucket_reso=320, bucket_no_upscale=True)
WITHOUT_CAPTIONS = TrainerInput((GIRL, BOY), windows=False)
WITH_CAPTIONS = replace(WITHOUT_CAPTIONS, caption_extension=".txt", training=TRAINING)
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
    """One folder for any number of classes; where no captions are written the hint names the class tokens."""
    found = trainer_settings("kohya", WITHOUT_CAPTIONS)
    assert options(found.text) == {"--reg_data_dir": str(ODD)}
    assert "'anime girl'" in found.hints[0]


def test_kohya_is_given_the_captions_and_buckets_of_the_job() -> None:
    """By the names of kohya's command line; options that are off are left out."""
    assert options(trainer_settings("kohya", WITH_CAPTIONS).text) == {
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
    assert set(options(trainer_settings("kohya", replace(WITHOUT_CAPTIONS, training=cut)).text)) == {
        "--reg_data_dir",
        "--resolution",
    }


@pytest.mark.parametrize(("theirs", "ours"), [(".caption", ".txt"), (".txt", ".caption")])
def test_kohya_reads_one_caption_extension_for_both_sets(theirs: str, ours: str) -> None:
    """The training set's extension is printed, whose captions matter more; a hint names the conflict with the job."""
    training = TRAINING.model_copy(update={"caption_extension": theirs})
    found = trainer_settings("kohya", replace(WITH_CAPTIONS, caption_extension=ours, training=training))
    assert options(found.text)["--caption_extension"] == theirs
    (hint,) = found.hints
    assert f"that of the training images is {theirs}" in hint
    assert f'extension = "{theirs}" in the job' in hint
    same = trainer_settings("kohya", replace(WITH_CAPTIONS, caption_extension=theirs, training=training))
    assert (options(same.text)["--caption_extension"], same.hints) == (theirs, ())


def test_with_a_dataset_config_kohya_ignores_the_command_line() -> None:
    """The config has its own options, so none are repeated; the hint names kohya-toml."""
    found = trainer_settings("kohya", replace(WITH_CAPTIONS, training=Training(config=Path("dataset.toml"))))
    assert set(options(found.text)) == {"--reg_data_dir", "--caption_extension"}
    assert "kohya-toml" in " ".join(found.hints)


@pytest.mark.parametrize(
    ("root", "word"),
    [("C:\\my sets\\reg & more", '"C:\\my sets\\reg & more"'), ("D:\\", '"D:\\\\"')],
)
def test_windows_paths_are_in_double_quotes(root: str, word: str) -> None:
    """A backslash at the end is doubled, since it would escape the closing quote."""
    served = ClassFolder(PureWindowsPath(root) / "1_girl", "girl", 1, 9)
    text = trainer_settings("kohya", TrainerInput((served,), training=TRAINING, windows=True)).text
    assert text.startswith(f"--reg_data_dir {word} ")
    assert '--resolution "512,768"' in text  # PowerShell splits an unquoted one


@pytest.mark.parametrize(
    ("text", "windows", "word"),
    [
        ("it's", False, """'it'"'"'s'"""),
        ("plain", False, "plain"),
        ("plain", True, '"plain"'),
        ("this&that", True, '"this&that"'),
        ('a "b"\\', True, '"a \\"b\\"\\\\"'),
    ],
)
def test_words_are_quoted_for_the_shell(text: str, windows: bool, word: str) -> None:
    """As POSIX shells read them, and always in double quotes on Windows, where & and , separate words."""
    assert shell_word(text, windows=windows) == word


def test_kohya_s_toml_has_only_the_reg_subsets_where_the_training_set_is_unknown() -> None:
    """It has no [[datasets]] of its own: without train images in it kohya would use no reg image."""
    for data in (WITHOUT_CAPTIONS, replace(WITHOUT_CAPTIONS, training=Training(config=Path("dataset.toml")))):
        text = trainer_settings("kohya-toml", data).text
        assert "[[datasets]]" not in text.splitlines()
        assert tomllib.loads(text) == {
            "datasets": {
                "subsets": [
                    {
                        "is_reg": True,
                        "image_dir": str(one.folder),
                        "num_repeats": one.repeats,
                        "class_tokens": one.class_tokens,
                        "caption_prefix": "",
                        "caption_suffix": "",
                    }
                    for one in (GIRL, BOY)
                ]
            }
        }
        assert "class tokens" in comments(text)


def test_kohya_s_toml_is_whole_where_the_training_folder_is_known() -> None:
    """Train folders with their caption extension, then reg folders with theirs, under one [[datasets]]."""
    (entry,) = tomllib.loads(trainer_settings("kohya-toml", replace(WITH_CAPTIONS, training_folders=(TRAIN,))).text)[
        "datasets"
    ]
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
    """They are under no key of their own: a second `datasets:` would replace the user's."""
    assert yaml.safe_load(trainer_settings("ai-toolkit", WITH_CAPTIONS).text) == [
        {
            "folder_path": str(one.folder),
            "is_reg": True,
            "num_repeats": one.repeats,
            "default_caption": one.class_tokens,
            "caption_ext": "txt",
            "resolution": 627,
            "bucket_tolerance": 64,
        }
        for one in (GIRL, BOY)
    ]
    bare = trainer_settings("ai-toolkit", WITHOUT_CAPTIONS).text
    assert set(yaml.safe_load(bare)[0]) == {"folder_path", "is_reg", "num_repeats", "default_caption"}
    assert "default_caption" in comments(bare)


def test_simpletuner_counts_the_times_after_the_first() -> None:
    """Its repeats are one less; each backend has its own id; only .txt captions are read."""
    found = json.loads(trainer_settings("simpletuner", WITH_CAPTIONS).text)
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
    for data in (WITHOUT_CAPTIONS, replace(WITH_CAPTIONS, caption_extension=".caption")):
        settings = trainer_settings("simpletuner", data)
        entry = json.loads(settings.text)[0]
        assert (entry["caption_strategy"], entry["instance_prompt"]) == ("instanceprompt", "anime girl")
        assert ".txt files only" in " ".join(settings.hints)


def test_onetrainer_is_given_prior_prediction_concepts() -> None:
    """In the version that OneTrainer writes; seeds are fixed, since new ones would rebuild its caches at each start."""
    found = json.loads(trainer_settings("onetrainer", WITH_CAPTIONS).text)
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
    assert "image" not in json.loads(trainer_settings("onetrainer", WITHOUT_CAPTIONS).text)[0]
    assert "an empty prompt" in " ".join(trainer_settings("onetrainer", WITHOUT_CAPTIONS).hints)


def test_onetrainer_is_given_the_exact_size_where_there_are_no_buckets() -> None:
    """As width x height."""
    training = TRAINING.model_copy(update={"enable_bucket": False})
    found = json.loads(trainer_settings("onetrainer", replace(WITH_CAPTIONS, training=training)).text)
    assert found[0]["image"]["resolution_override"] == "512x768"


def test_diffusers_is_given_the_class_folder_and_all_its_images() -> None:
    """The number is the whole count, since diffusers generates what is missing; one line for each class."""
    square = replace(WITHOUT_CAPTIONS, training=Training(folder=Path("train"), resolution=768))
    found = trainer_settings("diffusers", square)
    assert [options(line) for line in found.text.splitlines()] == [
        {
            "--with_prior_preservation": None,
            "--class_data_dir": str(one.folder),
            "--class_prompt": one.class_tokens,
            "--num_class_images": str(one.images),
            "--resolution": "768",
        }
        for one in (GIRL, BOY)
    ]
    assert "every entry" in found.hints[0]
    assert "one class" in found.hints[1]


def test_diffusers_opens_every_file_as_an_image() -> None:
    """A hint warns of captions and a metadata.jsonl among the images."""
    hints = trainer_settings("diffusers", replace(WITH_CAPTIONS, classes=(GIRL,), has_metadata_file=True)).hints
    assert ".txt files and metadata.jsonl" in hints[-1]
    assert len(trainer_settings("diffusers", replace(WITHOUT_CAPTIONS, classes=(GIRL,))).hints) == 1


@pytest.mark.parametrize("trainer", ["simpletuner", "onetrainer"])
def test_json_is_ascii(trainer: str) -> None:
    """On Windows these trainers read JSON in the system's code page."""
    assert trainer_settings(trainer, WITH_CAPTIONS).text.isascii()


@pytest.mark.parametrize("trainer", [None, "", "Kohya", "comfyui"])
def test_an_unknown_trainer_is_answered_with_the_known_ones(trainer: str | None) -> None:
    """The message lists all trainers, whether the name was left out or misspelled."""
    with pytest.raises(JobError) as caught:
        trainer_settings(trainer, WITHOUT_CAPTIONS)
    assert all(name in str(caught.value) for name in TRAINERS)


# ---- from a job


def a_job(root: Path, **more: Any) -> dict[str, Any]:
    return {
        "dataset": {"root": str(root), "count": 9, "repeats": 2},
        "sampling": {"checkpoint": "anime.safetensors"},
        "prompts": {"positive": "a person"},
        "class": [{"words": "girl", "share": 2}, {"words": "boy"}],
    } | more


def test_each_class_of_a_job_has_its_own_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders are absolute, however the job names them; the count is the share of the class."""
    monkeypatch.chdir(tmp_path)
    data = trainer_input(prepare(Job.model_validate(a_job(Path("my reg"))), "a.toml"))
    assert data.classes == (
        ClassFolder(tmp_path / "my reg" / "2_girl", "girl", 2, 6),
        ClassFolder(tmp_path / "my reg" / "2_boy", "boy", 2, 3),
    )
    assert (data.caption_extension, data.training, data.training_folders, data.has_metadata_file) == (
        None,
        None,
        (),
        False,
    )


def test_the_train_folders_and_captions_come_from_the_job(tmp_path: Path) -> None:
    """Folders as kohya reads them, ordered by path; those that are not class folders are left out."""
    for name in ("3_b", "10_a", "notes"):
        paint(tmp_path / "train" / name / "1.png")
    job = a_job(
        tmp_path / "reg",
        training={"folder": str(tmp_path / "train"), "resolution": 256, "min_bucket_reso": 64},
        captions={"write": "class", "extension": ".txt"},
    )
    data = trainer_input(prepare(Job.model_validate(job), "a.toml"))
    assert [(one.folder.name, one.class_tokens, one.repeats) for one in data.training_folders] == [
        ("10_a", "a", 10),
        ("3_b", "b", 3),
    ]
    assert data.caption_extension == ".txt"


@pytest.mark.parametrize("trainer", TRAINERS)
def test_the_command_prints_the_settings_and_nothing_else(trainer: str, tmp_path: Path) -> None:
    """Hints go to stderr, so that the output can be redirected into a file."""
    file = tmp_path / "job.toml"
    file.write_text(
        f'[dataset]\nroot = "{(tmp_path / "reg").as_posix()}"\nclass = "girl"\ncount = 4\n'
        '[sampling]\ncheckpoint = "a.safetensors"\n[prompts]\npositive = "a girl"\n',
        encoding="utf-8",
    )
    done = CliRunner().invoke(app, ["config", str(file), "--for", trainer])
    assert done.exit_code == 0
    data = TrainerInput((ClassFolder(tmp_path / "reg" / "1_girl", "girl", 1, 4),))
    assert done.stdout == trainer_settings(trainer, data).text
    assert list(done.stderr.splitlines()) == list(trainer_settings(trainer, data).hints)


def test_the_command_s_help_names_every_trainer() -> None:
    """--help lists all values of --for."""
    said = " ".join(CliRunner().invoke(app, ["config", "--help"], terminal_width=200).stdout.split())
    assert all(name in said for name in TRAINERS)
