"""The doctor says how the images of a set are used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reggen.diagnosis.doctor import examine
from reggen.diagnosis.scope import DoctorOptions
from reggen.kohya.buckets import Bucketing
from reggen.report.doctor_report import doctor_report_data, format_doctor_report
from tests.pictures import paint, write
from tests.reg_sets import (
    BUCKETING,
    GIRL,
    build_set,
    files,
    kinds,
    options_for,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return build_set(tmp_path)


def test_too_many_images_are_reported_with_the_arithmetic(root: Path) -> None:
    """How many, of how many, and how many would be enough."""
    for n in range(4, 10):
        paint(root / GIRL / f"reg_00{n}.png")
    found = examine(options_for(root))
    (finding,) = found.findings
    assert finding.kind == "unused"
    assert finding.details.startswith("6 of 10: the train images and their repeats make 4 slots")
    assert "4 images in all" in finding.remedy
    assert "4 of 10, once each; 6 never" in format_doctor_report(found)


def test_too_few_images_are_a_note(root: Path) -> None:
    """They are used several times, which is no fault."""
    (root / GIRL / "reg_003.png").unlink()
    found = examine(options_for(root))
    assert kinds(found) == {"uneven"}
    assert found.well
    assert "3 of 3, 1 to 2 times" in format_doctor_report(found)


def test_repeats_that_fill_all_slots_are_not_too_few_images(root: Path) -> None:
    """7 x 1 + 2 x 5 = 17 images for 17 slots: some count five times because their folder says so."""
    for n in range(4, 7):
        paint(root / GIRL / f"reg_00{n}.png")
    for n in range(2):
        paint(root / "reg" / "5_boy" / f"reg_00{n}.png")
    (root / "train" / "2_spyke girl").rename(root / "train" / "8_spyke girl")
    paint(root / "train" / "1_x" / "0.png")
    found = examine(options_for(root))
    assert (found.entries[0].total, sum(folder.slots for folder in found.folders)) == (17, 17)
    assert found.findings == ()


def test_the_report_says_of_each_image_whether_it_is_used_and_where_its_caption_is_from(root: Path) -> None:
    """By name for programs, all of them; for people the counts, and the names of the few that are unlike the others."""
    for n in range(4, 14):
        paint(root / GIRL / f"reg_0{n:02d}.png")
    write(root / GIRL / "reg_001.caption", "a girl")
    found = examine(options_for(root))
    (folder,) = doctor_report_data(found)["folders"]
    never = [f"reg_0{n:02d}.png" for n in range(4, 14)]
    assert folder["never_used"] == never
    assert len(folder["caption_sources"]) == 14
    assert folder["caption_sources"]["reg_001.png"] == "caption file"
    assert folder["caption_sources"]["reg_002.png"] == "class tokens"
    assert files(found, "unused") == never
    said = format_doctor_report(found)
    assert "1 from caption file (reg_001.png), 13 from class tokens" in said
    assert "reg_008.png and 5 more" in said


def test_sizes_no_train_image_has_are_reported(root: Path) -> None:
    """And sizes that only train images have."""
    options = Bucketing((128, 128), min_reso=64)
    for n in range(4):
        paint(root / GIRL / f"reg_00{n}.png", (64, 192))
    found = examine(options_for(root, bucketing=options))
    assert kinds(found) == {"reg-bucket", "train-bucket", "enlarged"}
    assert "64x192 (4, reg only)" in format_doctor_report(found)


def test_without_a_training_set_all_are_taken_as_used(root: Path) -> None:
    """And that is said."""
    found = examine(DoctorOptions(root / "reg", bucketing=BUCKETING))
    assert [finding.kind for finding in found.findings] == ["no-training"]
    assert found.folders[0].used == 4
    assert found.well


def test_steps_that_do_not_suit_every_model_are_a_note(root: Path) -> None:
    """kohya's own scripts check them against their model."""
    assert "steps" in kinds(examine(options_for(root, bucketing=replace(BUCKETING, steps=32))))


def test_enlarged_images_are_reported(root: Path) -> None:
    """A warning above one and a half times, a note above a tenth; of reg images and train images."""
    found = examine(options_for(root, bucketing=Bucketing((128, 128), min_reso=64)))
    said = [finding.details for finding in found.findings if finding.kind == "enlarged"]
    assert said == ["2 of 2 train images, up to 2.0 times", "4 of 4 reg images, up to 2.0 times"]
    for n in range(4):
        paint(root / GIRL / f"reg_00{n}.png", (100, 100))
    found = examine(options_for(root, bucketing=Bucketing((128, 128), min_reso=64)))
    assert [one.details for one in found.findings if one.kind == "enlarged-little"] == [
        "4 of 4 reg images, up to 1.3 times"
    ]


def test_without_a_resolution_buckets_are_not_compared(root: Path) -> None:
    """kohya requires one; nothing is assumed."""
    found = examine(options_for(root, bucketing=Bucketing((512, 512), is_known=False)))
    assert kinds(found) == {"no-resolution"}
    assert found.well
