"""The doctor compares images with what the ledger recorded of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import filelock
import pytest

from reggen.dataset.ledger import ledger_file
from reggen.diagnosis import inspection
from reggen.diagnosis.doctor import examine
from reggen.diagnosis.fixes import apply_fixes
from reggen.images import probe
from reggen.kohya.buckets import Bucketing
from reggen.report.doctor_report import doctor_report_data, format_doctor_report
from tests.pictures import paint
from tests.reg_sets import (
    GIRL,
    build_set,
    files,
    kinds,
    options_for,
    overwrite,
    record_set,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return build_set(tmp_path)


@pytest.fixture
def made(root: Path) -> Path:
    return record_set(root)


@pytest.mark.parametrize("content", [b"\x07", bytes(40)], ids=["a byte", "NULs"])
def test_damage_that_changes_no_size_is_found_by_the_ledger(
    made: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a decoder says something or not; with a remedy that can be pasted, and --fix sets it aside."""
    assert kinds(examine(options_for(made))) == set()
    overwrite(made / GIRL / "reg_002.png", 0.6, content)
    monkeypatch.setattr(
        inspection, "read_pixels", lambda path: replace(probe.read_pixels(path), flaws=())
    )  # a decoder that is content
    found = examine(options_for(made, redo_command="python -m reggen redo girl.toml"))
    assert files(found, "image-changed") == ["reg_002.png"]
    assert not found.well
    assert "python -m reggen redo girl.toml 2" in format_doctor_report(found)
    assert doctor_report_data(found)["findings"][0]["fixed_by_fix"] is True
    assert [done for done in apply_fixes(found) if "rejected" in done]
    assert kinds(examine(options_for(made))) == {"uneven"}


def test_damage_is_reported_once(made: Path) -> None:
    """What a decoder finds is said in its words alone."""
    overwrite(made / GIRL / "reg_002.png", 0.0, bytes(64))
    assert kinds(examine(options_for(made))) == {"image-unreadable"}


def test_a_changed_size_is_left_to_the_run(made: Path) -> None:
    """It checks the image again; somebody may have painted over a blemish."""
    paint(made / GIRL / "reg_002.png", (128, 64))
    found = examine(options_for(made, bucketing=Bucketing((64, 64), enabled=False)))
    assert files(found, "image-edited") == ["reg_002.png"]
    assert found.well


def test_hashes_are_left_alone_where_they_cannot_be_right(made: Path) -> None:
    """Headers only, or a run that fills the folder just now; an image without a row has none."""
    overwrite(made / GIRL / "reg_002.png", 0.6, bytes(40))
    assert "image-changed" not in kinds(examine(options_for(made, quick=True)))
    state = made / "reg" / ".reggen" / "1_girl"
    with filelock.FileLock(state / "lock"):
        assert "image-changed" not in kinds(examine(options_for(made)))


def test_a_damaged_ledger_is_a_finding(made: Path) -> None:
    """The rest is examined all the same, and the ledger is not touched."""
    ledger = ledger_file(made / "reg" / ".reggen" / "1_girl")
    ledger.write_bytes(b"no database at all " * 400)
    found = examine(options_for(made))
    assert kinds(found) == {"ledger-damaged"}
    assert ledger.read_bytes() == b"no database at all " * 400
