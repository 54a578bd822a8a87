"""The doctor finds pictures that look like another."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from reggen.diagnosis.doctor import examine
from reggen.diagnosis.duplicates import NearDuplicates
from tests.gallery import cut, jpeg
from tests.gallery import picture as picture_of
from tests.reg_sets import (
    GIRL,
    files,
    options_for,
)


def like(source: Path, target: Path, change: Callable[[Image.Image], Image.Image]) -> Path:
    """A changed copy of a picture."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(source) as image:
        change(image.convert("RGB")).save(target, compress_level=1)
    return target


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "encoded again": lambda image: image,
    "JPEG": lambda image: jpeg(image, 60),
    "cut": lambda image: cut(image, 0.01, 0.5, 0.5),
    "smaller": lambda image: image.resize((230, 230)),
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set and a training set of pictures as people have them."""
    root = tmp_path_factory.mktemp("original")
    for folder, numbers in ((GIRL, range(8)), ("train/8_spyke", range(8, 9))):
        (root / folder).mkdir(parents=True)
        for n in numbers:
            picture_of(n, 256).save(root / folder / f"reg_{n:03d}.png")
    return root


@pytest.fixture
def pictures(original: Path, tmp_path: Path) -> Path:
    """A copy of the set, to be changed."""
    return shutil.copytree(original, tmp_path / "set")


def test_different_pictures_are_well(original: Path) -> None:
    """Nothing is found among pictures that differ."""
    assert examine(options_for(original)).well


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize(
    ("kind", "source"),
    [("image-near-duplicate", f"{GIRL}/reg_003.png"), ("image-train-near-duplicate", "train/8_spyke/reg_008.png")],
)
def test_pictures_that_look_like_another_are_found(pictures: Path, kind: str, source: str, copy: str) -> None:
    """Of the set or of the training set; the later one is named, with the one it looks like and a remedy."""
    like(pictures / source, pictures / GIRL / "reg_007.png", COPIES[copy])
    found = examine(options_for(pictures))
    assert files(found, kind) == ["reg_007.png"]
    (finding,) = (one for one in found.findings if one.kind == kind)
    assert finding.details.endswith(str(pictures / source))
    assert ("is the same picture as" in finding.details) is (copy == "encoded again")
    assert "the next run makes" in finding.remedy


def test_look_alikes_are_not_sought_where_the_job_or_quick_says_so(pictures: Path) -> None:
    """A job whose own gate is off, or --quick."""
    like(pictures / GIRL / "reg_003.png", pictures / GIRL / "reg_007.png", COPIES["JPEG"])
    for more in ({"near_duplicates": False}, {"quick": True}):
        assert files(examine(options_for(pictures, **more)), "image-near-duplicate") == []


def test_the_oldest_pictures_are_forgotten_where_there_are_too_many() -> None:
    """Memory does not grow with the set."""
    duplicates = NearDuplicates((), 2)
    for n, phash in enumerate((0, 0xFF, 0xFFFF)):
        assert duplicates.match_of(Path(f"{n}.png"), phash) is None
    assert [path.name for path in duplicates._paths] == ["2.png", "1.png"]
