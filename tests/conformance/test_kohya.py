"""The doctor's word against kohya's own loader: images and their uses, captions, buckets, and whether it ends.

Needs a checkout of kohya-ss/sd-scripts (48d368fa was used) and a python that can import it:

    REGGEN_SD_SCRIPTS=~/sd-scripts REGGEN_SD_PYTHON=~/sd-scripts/venv/bin/python python -m pytest tests/conformance
"""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from reggen.dataset.doctor import examine
from reggen.dataset.examined import Examination, Judged, Stop
from reggen.dataset.findings import Severity
from reggen.dataset.training import read_training
from reggen.errors import JobError
from reggen.kohya import Bucketing, NoBucket, Size
from tests.conformance.kohya_layouts import LAYOUTS, Layout

SCRIPTS, PYTHON = os.environ.get("REGGEN_SD_SCRIPTS", ""), os.environ.get("REGGEN_SD_PYTHON", "")
pytestmark = pytest.mark.skipif(
    not (SCRIPTS and PYTHON), reason="REGGEN_SD_SCRIPTS and REGGEN_SD_PYTHON do not name kohya's sd-scripts"
)
Answer = dict[str, Any]


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
    folder = tmp_path_factory.mktemp("kohya")
    asked = {
        "layouts": [layout.options(roots[layout.name]) for layout in LAYOUTS],
        "buckets": [(as_asked(options), *size) for options, size in some_buckets()],
    }
    (folder / "questions.json").write_text(json.dumps(asked), encoding="utf-8")
    loader = Path(__file__).with_name("kohya_loader.py")
    command = [PYTHON, str(loader), SCRIPTS, str(folder / "questions.json"), str(folder / "answers.json")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=110)
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


def examined(layout: Layout, root: Path) -> tuple[Examination | JobError, list[Judged]]:
    judged: list[Judged] = []
    try:
        return examine(layout.question(root), each=judged.append), judged
    except JobError as error:
        return error, []


def told(found: Examination | JobError) -> str:
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
        assert isinstance(found, JobError) or found.stop is Stop.START
        return
    assert isinstance(found, Examination), found
    assert found.stop is (Stop.LOAD if answer["load"] else None)
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
    question = layout.question(roots[layout.name])
    found = read_training(question.train, question.config, bucketing=question.bucketing, caption_ending=question.ending)
    mine = [[str(one.path), one.entry, False, one.repeats, one.caption, list(one.bucket)] for one in found.images]
    assert mine == [image for image in answer["images"] if not image[2]]


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
