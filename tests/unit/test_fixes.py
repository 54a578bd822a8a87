"""--fix repairs what it can without a loss."""

from __future__ import annotations

from pathlib import Path

import filelock
import pytest

from reggen.diagnosis.doctor import examine
from reggen.diagnosis.fixes import apply_fixes
from reggen.diagnosis.inspection import InspectedImage
from reggen.errors import DatasetLocked
from tests.pictures import paint, plain, tear, write
from tests.reg_sets import (
    GIRL,
    build_set,
    kinds,
    options_for,
    stale_cache,
    web_page,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return build_set(tmp_path)


def test_fix_changes_only_what_loses_nothing(root: Path) -> None:
    """Caches, parts, marks and empty captions go; bad images move aside with their captions; the rest stays."""
    folder = root / GIRL
    stale_cache(root)
    for name in ("gone.npz", "x.png.part", "reg_001.caption"):
        write(folder / name, b"")
    write(folder / "reg_002.caption", "\ufeffa girl")
    write(tear(folder / "torn.png").with_suffix(".caption"), "\ufeffhers")
    write(folder / "torn_0064x0064_sd.npz", b"")
    plain(folder / "night.png")
    web_page(root)
    known: dict[Path, InspectedImage] = {}
    found = examine(options_for(root), known=known)
    assert all("girl" in done for done in apply_fixes(found))
    after = examine(options_for(root), known=known)
    assert kinds(after) == {"image-unreadable", "unused"}
    assert sorted(file.name for file in folder.iterdir()) == [
        "page.png",
        *(f"reg_00{n}.png" for n in range(2)),
        "reg_002.caption",
        "reg_002.png",
        "reg_003.png",
    ]
    assert (folder / "reg_002.caption").read_bytes() == b"a girl"
    aside = root / "reg" / ".reggen" / "1_girl" / "rejected"
    assert sorted(file.name for file in aside.iterdir()) == ["night.png", "torn.caption", "torn.png"]


def test_fix_leaves_an_empty_caption_without_class_tokens(root: Path) -> None:
    """The image would be trained under no caption at all: a person decides."""
    paint(root / "reg" / "5" / "a.png")
    write(root / "reg" / "5" / "a.caption", b"")
    assert list(apply_fixes(examine(options_for(root)))) == []


def test_fix_waits_for_a_run(root: Path) -> None:
    """A folder that is being filled is not touched."""
    state = root / "reg" / ".reggen" / "1_girl"
    state.mkdir(parents=True)
    write(root / GIRL / "x.part", b"")
    with filelock.FileLock(state / "lock"), pytest.raises(DatasetLocked):
        list(apply_fixes(examine(options_for(root))))
    assert (root / GIRL / "x.part").exists()
