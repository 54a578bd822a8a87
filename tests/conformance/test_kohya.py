"""The doctor's word against kohya's own loader: images and their uses, captions, buckets, and whether it ends.

Needs a checkout of kohya-ss/sd-scripts (48d368fa was used) and a python that can import it:

    REGGEN_SD_SCRIPTS=~/sd-scripts REGGEN_SD_PYTHON=~/sd-scripts/venv/bin/python python -m pytest tests/conformance
"""

from __future__ import annotations

import json
import os
import random
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from pydantic import ValidationError

from reggen.diagnosis.doctor import examine
from reggen.diagnosis.findings import Severity
from reggen.diagnosis.model import DoctorReport, ImageUse, TrainingStop
from reggen.diagnosis.scope import DoctorOptions
from reggen.errors import JobError
from reggen.geometry import Size
from reggen.job.models import Training
from reggen.kohya.buckets import Bucketing, NoBucket
from reggen.report.trainer_input import ClassFolder, TrainerInput
from reggen.report.trainers import trainer_settings
from reggen.training.dataset_config import ConfigFile, DatasetTable, SubsetTable
from reggen.training.training_set import TrainingSet, read_training
from tests.conformance.kohya_layouts import LAYOUTS, Layout
from tests.pictures import paint, write

SCRIPTS, PYTHON = os.environ.get("REGGEN_SD_SCRIPTS", ""), os.environ.get("REGGEN_SD_PYTHON", "")
pytestmark = [
    pytest.mark.skipif(
        not (SCRIPTS and PYTHON), reason="REGGEN_SD_SCRIPTS and REGGEN_SD_PYTHON do not name kohya's sd-scripts"
    ),
    pytest.mark.timeout(600),
]
Answer = dict[str, Any]
GIRLS_FIRST = (("girl's [1]", 1), ("girl's [1]", 2), ("girl's [1]", 3), ("boy # 2", 1))


def some_buckets(count: int = 3000) -> list[tuple[Bucketing, Size]]:
    """Options and image sizes by chance, the same every time."""
    chance = random.Random(48)
    found: list[tuple[Bucketing, Size]] = []
    while len(found) < count:
        options = Bucketing(
            (chance.randint(64, 1600), chance.randint(64, 1600)),
            min_reso=chance.choice([64, 128, 256, 320]),
            max_reso=chance.choice([1024, 1600, 2048]),
            steps=chance.choice([8, 32, 64, 100]),
            no_upscale=chance.random() < 0.4,
        )
        if not options.problems():
            found.append((options, (chance.randint(1, 3000), chance.randint(1, 3000))))
    return found


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every layout, built. The names of the folders hold no ``_`` of their own beyond pytest's."""
    return {layout.name: layout.made(tmp_path_factory.mktemp("layout")) for layout in LAYOUTS}


@pytest.fixture(scope="module")
def said(roots: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Answer:
    """What kohya says to all of them, from one process."""
    asked = {
        "layouts": [layout.options(roots[layout.name]) for layout in LAYOUTS],
        "buckets": [(as_asked(options), *size) for options, size in some_buckets()],
        "configs": documents(),
    }
    return answered(asked, tmp_path_factory.mktemp("kohya"))


def answered(asked: Answer, folder: Path) -> Answer:
    """What kohya's loader answers, from a process of its own."""
    (folder / "questions.json").write_text(json.dumps(asked), encoding="utf-8")
    loader = Path(__file__).with_name("kohya_loader.py")
    command = [PYTHON, str(loader), SCRIPTS, str(folder / "questions.json"), str(folder / "answers.json")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=560)
    assert done.returncode == 0, done.stderr[-3000:]
    answers: Answer = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
    return answers


def as_asked(options: Bucketing) -> dict[str, Any]:
    low, high = options.limits
    return {
        "no_upscale": options.no_upscale,
        "resolution": options.resolution,
        "low": low,
        "high": high,
        "steps": options.steps,
    }


def examined(layout: Layout, root: Path) -> tuple[DoctorReport | JobError, list[ImageUse]]:
    judged: list[ImageUse] = []
    try:
        return examine(layout.doctor_options(root), on_image=judged.append), judged
    except JobError as error:
        return error, []


def training(options: DoctorOptions) -> TrainingSet:
    return read_training(
        options.train,
        options.config,
        bucketing=options.bucketing,
        captions=options.captions,
        validation=options.validation,
    )


def told(found: DoctorReport | JobError) -> str:
    """Every error that was found, in its words."""
    if isinstance(found, JobError):
        return str(found)
    errors = [finding for finding in found.findings if finding.severity is Severity.ERROR]
    return " ".join(f"{finding.what} {finding.details}" for finding in errors)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_the_doctor_says_what_kohya_does(layout: Layout, roots: dict[str, Path], said: Answer) -> None:
    """The same images, as often, under the same captions, in the same buckets; or the same end, told beforehand."""
    root, answer = roots[layout.name], said["layouts"][LAYOUTS.index(layout)]
    found, judged = examined(layout, root)
    if answer["start"]:
        assert answer["start"] in told(found)
        assert isinstance(found, JobError) or found.stop is TrainingStop.START
        return
    assert isinstance(found, DoctorReport), found
    assert found.stop is (TrainingStop.LOAD if answer["load"] else None)
    mine = sorted(
        (str(one.path), one.entry, one.uses, one.caption.text, list(one.bucket or ())) for one in judged if one.uses
    )
    if any(finding.kind == "level" for finding in found.findings):
        mine = []  # what was examined lies where kohya does not look
    theirs = sorted(
        (path, entry, uses, caption, size if all(size) else [])
        for path, entry, is_reg, uses, caption, size in answer["images"]
        if is_reg
    )
    assert mine == theirs
    torn = {
        str(file) for one in found.findings if one.kind in {"image-truncated", "image-bucket"} for file in one.files
    }
    assert {path for path, _ in answer["load"]} == torn


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_the_training_set_is_what_kohya_trains(layout: Layout, roots: dict[str, Path], said: Answer) -> None:
    """Every train image with its repeats, caption and bucket, in kohya's order."""
    answer = said["layouts"][LAYOUTS.index(layout)]
    if answer["start"]:
        return
    options = layout.doctor_options(roots[layout.name])
    found = training(options)
    mine = [[str(one.path), one.entry, False, one.repeats, one.caption, list(one.bucket)] for one in found.images]
    assert mine == [image for image in answer["images"] if not image[2]]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_captions_are_what_kohya_trains(layout: Layout, roots: dict[str, Path], said: Answer) -> None:
    """Every text that kohya took in 500 steps for a train or reg image, and no other."""
    answer = said["layouts"][LAYOUTS.index(layout)]
    if answer["start"]:
        return
    options, judged = layout.doctor_options(roots[layout.name]), list[ImageUse]()
    found = training(options)
    examine(options, on_image=judged.append)
    mine = {(str(image.path), image.entry): image.trained for image in found.images}
    mine |= {(str(one.path), one.entry): one.trained for one in judged}
    for (path, entry, *_), texts in zip(answer["images"], answer["trained"], strict=True):
        if (path, entry) in mine:
            marked = {text.removeprefix("\ufeff") for text in texts}
            assert marked == {text.removeprefix("\ufeff") for text in mine[path, entry]}, path


def test_buckets_by_chance(said: Answer) -> None:
    """Three thousand options and sizes go to the same bucket, or to none in both."""
    for (options, size), theirs in zip(some_buckets(), said["buckets"], strict=True):
        assert chosen(options, size) == theirs or (chosen(options, size) is None and theirs[0] == 0), (options, size)


def chosen(options: Bucketing, size: Size) -> list[int] | str | None:
    """Our bucket, the name of kohya's exception, or None where the bucket has no width."""
    try:
        return list(options.bucket(*size))
    except NoBucket as error:
        return "ZeroDivisionError" if error.at_start else None


# ---- the schema of a config

VALUES: tuple[object, ...] = (None, True, 3, 0.5, "x", [], [1, 2], [0.5, 1.5], [1, 2, 3], ["x", "y"], {"a": 1})


def documents() -> list[dict[str, Any]]:
    """Configs with one option more: every key of kohya's, and one of nobody's, at every level with every value."""
    keys = sorted({*DatasetTable.model_fields, *SubsetTable.model_fields, "prior_loss_weight"})
    keys = [key for key in keys if key not in {"subsets", "metadata_file"}]
    found = []
    for key in keys:
        for value in VALUES:
            for level in range(3):
                tables: list[dict[str, Any]] = [{}, {}, {"image_dir": "a"}]
                tables[level][key] = value
                general, dataset, subset = tables
                found.append({"general": general, "datasets": [{**dataset, "subsets": [subset]}]})
    return found


def test_a_config_is_taken_where_kohya_takes_it(said: Answer) -> None:
    """By key, level and type; but true is taken for no number, which Python takes for 1."""
    for document, theirs in zip(documents(), said["configs"], strict=True):
        try:
            ConfigFile.model_validate(document)
            mine = True
        except ValidationError as error:
            mine = False
            if error.errors()[0]["input"] is True:
                continue
        assert mine == theirs, document


# ---- what `reggen config` prints


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[Any]]]:
    """The images kohya registers when told what is printed for it: a command line, a whole config, part of one.

    Two classes with repeats and captions, in folders whose names try every quoting.
    """
    root = tmp_path_factory.mktemp("told") / 'it\'s "mine" & {x}, #1 \\ [y] 少女 😀'
    train, reg = root / "train", root / "reg"
    for name, size in (("4_sks girl/1.png", (256, 256)), ("3_sks boy/1.png", (192, 320))):
        write(paint(train / name, size).with_suffix(".txt"), "sks")
    for words in ("girl's [1]", "boy # 2"):
        for number in (1, 2, 3):
            image = paint(reg / f"2_{words}" / f"reg_{number:03d}.png", (192, 320))
            write(image.with_suffix(".txt"), f"caption of {words} {number}")
    training = Training(folder=train, resolution=(256, 256), min_bucket_reso=128, caption_extension=".txt")
    served = tuple(ClassFolder(reg / f"2_{words}", words, 2, 3) for words in ("girl's [1]", "boy # 2"))
    trained = (ClassFolder(train / "4_sks girl", "sks girl", 4, 0), ClassFolder(train / "3_sks boy", "sks boy", 3, 0))
    told = TrainerInput(served, ".txt", training, trained, windows=False)
    line = shlex.split(trainer_settings("kohya", told).text)
    whole, part = root / "whole.toml", root / "part.toml"
    write(whole, trainer_settings("kohya-toml", told).text)
    own = "".join(
        f"[[datasets.subsets]]\nnum_repeats = {one.repeats}\ncaption_extension = '.txt'\n"
        + tomli_w.dumps({"image_dir": str(one.folder), "class_tokens": one.class_tokens})
        for one in trained
    )
    head = "[[datasets]]\nresolution = 256\nenable_bucket = true\nmin_bucket_reso = 128\n"
    write(part, head + own + trainer_settings("kohya-toml", replace(told, training=None)).text)
    options = {
        "line": [*line, "--train_data_dir", str(train)],
        "whole": ["--dataset_config", str(whole)],
        "part": ["--dataset_config", str(part)],
    }
    answer = answered({"layouts": list(options.values())}, tmp_path_factory.mktemp("kohya"))
    assert [one["start"] for one in answer["layouts"]] == [None] * 3
    return {name: sorted(one["images"]) for name, one in zip(options, answer["layouts"], strict=True)}


def test_kohya_does_what_the_printed_command_line_means(printed: dict[str, list[list[Any]]]) -> None:
    """T = 7: each reg image once with its repeats until 7 are reached, all under their own captions and bucket."""
    reg = [image for image in printed["line"] if image[2]]
    assert sum(uses for _, _, is_reg, uses, _, _ in printed["line"] if not is_reg) == 7
    assert len(reg) == 4  # 2 + 2 + 2 + 2 reach 7
    assert {tuple(image[5]) for image in reg} == {(192, 320)}
    assert all(image[4] == f"caption of {Path(image[0]).parent.name[2:]} {Path(image[0]).stem[-1]}" for image in reg)


@pytest.mark.parametrize("way", ["whole", "part"])
def test_kohya_reads_the_printed_config(way: str, printed: dict[str, list[list[Any]]]) -> None:
    """The same train images and captions as by the command line; of reg images as many, in the config's order."""

    def facts(images: list[list[Any]], *, is_reg: bool) -> list[Any]:
        return sorted(image for image in images if image[2] is is_reg)

    assert facts(printed[way], is_reg=False) == facts(printed["line"], is_reg=False)
    reg = facts(printed[way], is_reg=True)
    names = [f"2_{words}/reg_{number:03d}" for words, number in GIRLS_FIRST]
    assert sorted(f"{Path(one[0]).parent.name}/{Path(one[0]).stem}" for one in reg) == sorted(names)
    assert {one[3] for one in reg} == {2}
    assert all(one[4].startswith(f"caption of {Path(one[0]).parent.name[2:]}") for one in reg)


def test_kohya_keeps_class_tokens_where_no_captions_are_written(tmp_path: Path) -> None:
    """By the folder's name on the command line, by class_tokens in the config: the same words."""
    paint(tmp_path / "train" / "1_sks" / "1.png", (256, 256))
    paint(tmp_path / "reg" / "1_anime girl's" / "reg_001.png", (256, 256))
    training = Training(folder=tmp_path / "train", resolution=256, min_bucket_reso=128)
    served = ClassFolder(tmp_path / "reg" / "1_anime girl's", "anime girl's", 1, 1)
    told = TrainerInput(
        (served,), None, training, (ClassFolder(tmp_path / "train" / "1_sks", "sks", 1, 0),), windows=False
    )
    write(tmp_path / "dataset.toml", trainer_settings("kohya-toml", told).text)
    line = [*shlex.split(trainer_settings("kohya", told).text), "--train_data_dir", str(tmp_path / "train")]
    asked = {"layouts": [line, ["--dataset_config", str(tmp_path / "dataset.toml")]]}
    by_line, by_config = (sorted(one["images"]) for one in answered(asked, tmp_path)["layouts"])
    assert by_line == by_config
    assert [image[4] for image in by_line if image[2]] == ["anime girl's"]
