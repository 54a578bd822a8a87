"""The part of a training set that one reg set serves, in configs with several entries and reg folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from reggen.errors import JobError
from reggen.kohya.buckets import Bucketing
from reggen.training.served import ServedPart, images_of, served_part
from reggen.training.training_set import TrainingSet, read_training
from tests.pictures import paint, write

UNKNOWN = Bucketing((512, 512), is_known=False)


def entry(*, resolution: str = "", train: str = "", reg: str = "", more: str = "") -> str:
    """The text of a ``[[datasets]]``; ``train`` and ``reg`` are folders, separated by spaces."""
    lines = ["[[datasets]]", "enable_bucket = true", f"resolution = {resolution}" if resolution else "", more]
    for folder in train.split():
        lines += ["[[datasets.subsets]]", f'image_dir = "ROOT/{folder}"', "num_repeats = 10"]
    for folder in reg.split():
        lines += ["[[datasets.subsets]]", f'image_dir = "ROOT/{folder}"', "is_reg = true"]
    return "\n".join(lines) + "\n"


def read(root: Path, *entries: str) -> TrainingSet:
    file = write(root / "set.toml", "".join(entries).replace("ROOT", root.as_posix()))
    return read_training(None, file, bucketing=UNKNOWN)


def part(root: Path, *entries: str, own: str = "own") -> ServedPart:
    return served_part(read(root, *entries), [root / own])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(5):
        paint(tmp_path / "a" / f"{number}.png", (256, 384))
    paint(tmp_path / "b" / "0.png", (384, 256))
    return tmp_path


def test_of_several_resolutions_the_largest_decides_on_the_sizes(root: Path) -> None:
    """kohya shrinks the same images for the others; each training image comes once."""
    found = read(root, entry(resolution="512", train="a"), entry(resolution="1024", train="a"))
    served = served_part(found)
    assert (served.sized, served.count) == (1, 50)
    images = images_of(found, served)
    assert len(images) == 5
    assert {bucket for _, bucket in images} == {Bucketing((1024, 1024)).bucket(256, 384)}


def test_the_largest_resolution_of_those_that_are_served(root: Path) -> None:
    """An entry whose reg subset is another set has no say."""
    served = part(root, entry(resolution="512", train="a", reg="own"), entry(resolution="1024", train="a", reg="other"))
    assert (served.entries, served.sized) == ((0,), 0)


def test_an_image_of_a_smaller_entry_has_a_size_of_the_largest(root: Path) -> None:
    """The set serves both, so it is made for the largest."""
    found = read(root, entry(resolution="512", train="a"), entry(resolution="768", train="b"))
    buckets = {image.path.parent.name: bucket for image, bucket in images_of(found, served_part(found))}
    assert buckets["a"] == Bucketing((768, 768)).bucket(256, 384)


def test_reg_folders_before_ours_take_their_part_first(root: Path) -> None:
    """In the config's order; where ours is not in it yet it comes last."""
    for number in range(20):
        paint(root / "old" / f"{number}.png")
    assert part(root, entry(resolution="512", train="a", reg="old own")).count == 30
    assert part(root, entry(resolution="512", train="a", reg="own old")).count == 50
    served = part(root, entry(resolution="512", train="a", reg="old"))
    assert (served.count, [one.folder.name for one in served.before]) == (30, ["old"])


def test_a_reg_subset_without_training_images_is_not_used(root: Path) -> None:
    """kohya matches entry by entry (kohya-ss/sd-scripts#871)."""
    (root / "own").mkdir()
    assert part(root, entry(resolution="512", train="a"), entry(resolution="512", reg="own")).count == 0


@pytest.mark.parametrize(("split", "trained"), [("0.2", 4), ("0.5", 3), ("0.99", 1), ("1.0", 0), ("0.01", 5)])
def test_a_validation_split_is_rounded_up(root: Path, split: str, trained: int) -> None:
    """Images times one minus the share, rounded up; the very images are known by the seed."""
    text = entry(resolution="512", train="a", more=f"validation_split = {split}")
    assert read(root, text, entry(resolution="512", train="b")).total == trained * 10 + 10
    seeded = entry(resolution="512", train="a", more=f"validation_split = {split}\nvalidation_seed = 7")
    found = read(root, seeded, entry(resolution="512", train="b"))
    assert len(found.images) == trained + 1


def test_an_empty_folder_ends_a_training_with_a_validation_split(root: Path) -> None:
    """kohya cannot split nothing."""
    (root / "empty").mkdir()
    with pytest.raises(JobError, match="with a validation_split kohya stops on it: ValueError"):
        read(root, entry(resolution="512", train="a empty", more="validation_split = 0.2"))


def test_without_a_resolution_no_bucket_is_made_up(root: Path) -> None:
    """kohya requires one."""
    found = read(root, entry(train="a"))
    assert not found.bucketing.is_known
    assert found.images[0].bucket == (256, 384)
    assert read(root, entry(resolution="256", train="a")).bucketing.is_known
