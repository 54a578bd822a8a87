"""The doctor finds files and folders that the trainer reads by mistake, or passes over."""

from __future__ import annotations

from pathlib import Path

import pytest

from reggen.diagnosis.doctor import examine
from reggen.report.doctor_report import format_doctor_report
from tests.pictures import paint, write
from tests.reg_sets import (
    GIRL,
    aged,
    build_set,
    files,
    options_for,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return build_set(tmp_path)


def test_a_class_of_old_things_is_no_stray(root: Path) -> None:
    """Only a name of nothing but such words looks like a leftover."""
    (root / GIRL).rename(root / "reg" / "1_old_man")
    assert examine(options_for(root)).well


def test_a_folder_the_job_does_not_make_is_a_stray(root: Path) -> None:
    """Unless reggen keeps a state for it: another job's class."""
    paint(root / "reg" / "1_boy" / "a.png")
    job = options_for(root, expected_folders=frozenset({"1_girl"}))
    assert files(examine(job), "folder-stray") == ["1_boy"]
    (root / "reg" / ".reggen" / "1_boy" / "rejected").mkdir(parents=True)
    assert files(examine(job), "folder-stray") == ["1_boy"], "--fix set something of it aside, no more"
    write(root / "reg" / ".reggen" / "1_boy" / "ledger.sqlite", b"")
    assert files(examine(job), "folder-stray") == []


@pytest.mark.parametrize("name", ["5_old boy", "1_girl backup", "1_girl_2", "2_girl (copy)"])
def test_beside_the_folder_of_a_job_every_other_one_is_a_stray(root: Path, name: str) -> None:
    """Whatever it is called: kohya trains on it. Several are named, all of them."""
    paint(root / "reg" / name / "a.png")
    paint(root / "reg" / "7_x" / "a.png")
    found = examine(options_for(root, expected_folders=frozenset({"1_girl"})))
    assert sorted(files(found, "folder-stray")) == sorted([name, "7_x"])


@pytest.mark.parametrize(("name", "stray"), [("1_girl backup", True), ("3_girl_old", True), ("1_old boy", False)])
def test_without_a_job_a_copy_of_another_class_folder_is_a_stray(root: Path, name: str, stray: bool) -> None:
    """Its words and one more that says what it is; an old boy is a class of his own."""
    paint(root / "reg" / name / "a.png")
    assert files(examine(options_for(root)), "folder-stray") == [name] * stray


def test_caches_newer_than_their_images_are_left_alone(root: Path) -> None:
    """Of latents old and new, and of captions."""
    aged(root / GIRL / "reg_000.png", 0)
    for name in ("reg_000.npz", "reg_000_0064x0064_sdxl.npz", "reg_000_flux_te.npz"):
        write(root / GIRL / name, b"")
    assert examine(options_for(root)).well


def test_a_caption_borrowed_from_another_file_is_reported(root: Path) -> None:
    """kohya's quirk of five parts; the file it comes from is no orphan."""
    paint(root / GIRL / "a_b_c_d_e.png")
    lent = Path("_".join(str(root / GIRL / "a_b_c_d_e").split("_")[:-4]) + ".caption")
    write(lent, "somebody else's")
    found = examine(options_for(root))
    assert "a_b_c_d_e.png" in files(found, "caption-other")
    assert lent.name not in files(found, "caption-orphan")


@pytest.mark.parametrize("name", ["reg_001.caption", "reg_001.txt"])
def test_a_folder_where_a_caption_belongs_is_reported(root: Path, name: str) -> None:
    """kohya passes over it without a word."""
    (root / GIRL / name).mkdir()
    found = examine(options_for(root))
    assert files(found, "caption-folder") == [name]
    assert not found.well
    assert "move them elsewhere" in format_doctor_report(found)
