"""A training set as kohya reads it: which images, how often, in which buckets, with which captions. Blocking."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from reggen.errors import JobError, Problem
from reggen.geometry import Size
from reggen.images.probe import ImageFlaw, ImageInfo, glance, quietly
from reggen.kohya.rules import Bucketing, NoBucket
from reggen.training.captions import Caption, CaptionFault, read_caption
from reggen.training.dataset_config import read_config
from reggen.training.subsets import DatasetEntry, OptionInForce, Subset, advice, listed, names_of_images

_MANY = 20  # problems of one kind that are named; of more, the count


@dataclass(frozen=True, slots=True)
class TrainingImage:
    """One train image: its true size in pixels, how often an epoch shows it, its caption, its bucket.

    The caption is what kohya trains with, but without a byte order mark. ``entry`` counts the ``[[datasets]]``
    from 0.
    """

    path: Path
    size: Size
    repeats: int
    caption: str
    bucket: Size
    entry: int = 0


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """All train images in the trainer's order, and the options that hold for them.

    ``bucketings`` and ``settings`` have one item for each ``[[datasets]]`` entry, which is one for a folder;
    ``with_reg`` counts the entries that name reg folders.
    """

    images: tuple[TrainingImage, ...]
    bucketings: tuple[Bucketing, ...]
    settings: tuple[tuple[OptionInForce, ...], ...] = ()
    with_reg: tuple[int, ...] = ()

    @property
    def total(self) -> int:
        """The train images times their repeats: what an epoch shows, of all entries together."""
        return sum(image.repeats for image in self.images)

    def total_of(self, entry: int) -> int:
        """T of one ``[[datasets]]`` entry; kohya matches reg images entry by entry."""
        return sum(image.repeats for image in self.images if image.entry == entry)

    @property
    def served(self) -> int:
        """The entry that uses the most reg images, of those that name reg folders; of all while none does."""
        return max(self.with_reg or range(len(self.bucketings)), key=self.total_of)

    @property
    def bucketing(self) -> Bucketing:
        """The options of the first entry; the only ones unless a config has several."""
        return self.bucketings[0]


def read_training(
    folder: Path | None, config: Path | None, *, bucketing: Bucketing, caption_ending: str = ".caption"
) -> TrainingSet:
    """Read a ``--train_data_dir`` or a ``--dataset_config``; exactly one of the two is given.

    ``bucketing`` and ``caption_ending`` are what the trainer's command line says; a config's own words go over
    them. Raises JobError with every problem at once.
    """
    if (folder is None) == (config is None):
        raise JobError(str(folder or config or "training"), (Problem("", "give either a folder or a config"),))
    if config is not None:
        return training_of(read_config(config, bucketing, caption_ending), str(config))
    assert folder is not None
    if problem := _misplaced(folder, bucketing):
        raise JobError(str(folder), problem)
    settings = (OptionInForce("resolution", "x".join(map(str, bucketing.resolution)), "as given"),)
    return training_of((DatasetEntry(bucketing, listed(folder, caption_ending, is_reg=False), settings),), str(folder))


def _misplaced(folder: Path, bucketing: Bucketing) -> tuple[Problem, ...]:
    problems = [Problem("", problem) for problem in bucketing.problems()]
    if not folder.is_dir():
        problems.append(Problem("", "there is no such folder"))
    elif not any(names_of_images(subset.folder) for subset in listed(folder, "", is_reg=False)):
        problems.append(Problem("", "kohya finds no images in it", advice(folder)))
    return tuple(problems)


def training_of(entries: tuple[DatasetEntry, ...], name: str) -> TrainingSet:
    """The train images of these entries; ``name`` is what problems are told of. Raises JobError."""
    reader = _TrainingReader()
    with quietly():
        images = tuple(
            image
            for number, entry in enumerate(entries)
            for subset in entry.train
            for image in reader.images(subset, entry.bucketing, number)
        )
    if not images and not reader.problems:
        reader.problems.append(Problem("", "no folder of it that is not is_reg holds an image"))
    if reader.problems:
        more = [Problem("", f"and {reader.left_out} more like these")] if reader.left_out else []
        raise JobError(name, (*reader.problems, *more))
    with_reg = tuple(number for number, entry in enumerate(entries) if entry.reg)
    return TrainingSet(images, tuple(e.bucketing for e in entries), tuple(e.settings for e in entries), with_reg)


@dataclass(slots=True)
class _TrainingReader:
    """Reads folders one after another, each file once, and keeps what is wrong with them."""

    problems: list[Problem] = field(default_factory=list)
    left_out: int = 0
    seen: dict[Path, ImageInfo] = field(default_factory=dict)  # one folder may stand in several entries

    def images(self, subset: Subset, bucketing: Bucketing, entry: int) -> Iterator[TrainingImage]:
        if not subset.folder.is_dir():
            hint = "a relative image_dir is relative to where the trainer is started"
            self._wrong(str(subset.folder), "there is no such folder", hint)
            return
        for name in names_of_images(subset.folder):
            path = subset.folder / name
            picture = self.seen.get(path) or self.seen.setdefault(path, glance(path))
            caption = self._caption(read_caption(path, subset.reading), path)
            bucket = self._bucket(picture, bucketing, path)
            if picture.size and bucket:
                yield TrainingImage(path, picture.size, subset.repeats, caption, bucket, entry)

    def _bucket(self, picture: ImageInfo, bucketing: Bucketing, path: Path) -> Size | None:
        if picture.size is None or picture.seen is None:
            what = "is empty" if ImageFlaw.EMPTY in picture.flaws else "is no image"
            self._wrong(str(path), what, picture.details)
            return None
        try:
            return bucketing.bucket(*picture.seen)
        except NoBucket as error:
            self._wrong(str(path), "has no bucket", str(error))
            return None

    def _caption(self, caption: Caption, image: Path) -> str:
        if caption.fault and caption.fault.fatal:
            empty = caption.fault is CaptionFault.EMPTY
            what = "is empty, which ends the training" if empty else "is not UTF-8, which ends the training"
            self._wrong(str(caption.file), what, f"the caption of {image.name}")
        return caption.text.removeprefix("\ufeff")

    def _wrong(self, key: str, problem: str, hint: str) -> None:
        if len(self.problems) < _MANY:
            self.problems.append(Problem(key, problem, hint))
        else:
            self.left_out += 1
