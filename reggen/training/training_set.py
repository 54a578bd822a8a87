"""A training set as kohya reads it: which images, how often, in which buckets, with which captions. Blocking."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from reggen.errors import JobError, Problem
from reggen.geometry import Size, size_text
from reggen.images.probe import ImageFlaw, ImageInfo, read_header, without_pillow_warnings
from reggen.kohya.buckets import Bucketing, NoBucket
from reggen.kohya.captions import PLAIN_CAPTIONS, CaptionRules
from reggen.kohya.validation import NO_SPLIT, ValidationSplit
from reggen.training.captions import Caption, CaptionFault, read_caption
from reggen.training.dataset_config import read_config
from reggen.training.subsets import DatasetEntry, OptionInForce, Subset, image_names, level_hint, train_subsets

_NAMED = 20  # problems that are named; of more, the count


@dataclass(frozen=True, slots=True)
class TrainingImage:
    """One train image: its true size in pixels, how often an epoch shows it, its caption, its bucket.

    ``caption`` is the text of the caption file, without a byte order mark, or the class tokens; `trained` is what
    kohya makes of it by the ``rules`` of its folder. ``entry`` counts the ``[[datasets]]`` from 0.
    """

    path: Path
    size: Size
    repeats: int
    caption: str
    bucket: Size
    entry: int = 0
    rules: CaptionRules = PLAIN_CAPTIONS

    @property
    def trained(self) -> tuple[str, ...]:
        """The texts it is trained with."""
        return self.rules.trained(self.caption)


class SubsetCount(NamedTuple):
    """A folder of one ``[[datasets]]`` entry: the number of its images that are trained, and their repeats."""

    entry: int
    folder: Path
    images: int
    repeats: int


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """All train images in the trainer's order, and the options that hold for them.

    ``bucketings``, ``options`` and ``validation`` have one item for each ``[[datasets]]`` entry, which is one for a
    folder. ``train`` and ``reg`` are the folders in the trainer's order. Where a validation split has no seed,
    ``images`` are all that may be trained, and ``train`` has the true numbers. ``missing`` are train folders that do
    not exist or hold no image; kohya passes over them.
    """

    images: tuple[TrainingImage, ...]
    bucketings: tuple[Bucketing, ...]
    options: tuple[tuple[OptionInForce, ...], ...] = ()
    train: tuple[SubsetCount, ...] = ()
    reg: tuple[SubsetCount, ...] = ()
    validation: tuple[ValidationSplit, ...] = ()
    missing: tuple[Path, ...] = ()

    @property
    def total(self) -> int:
        """The train images times their repeats: what an epoch shows, of all entries together."""
        return sum(folder.images * folder.repeats for folder in self.train)

    def total_of(self, entry: int) -> int:
        """The same of one ``[[datasets]]`` entry: kohya uses as many of the entry's reg images."""
        return sum(folder.images * folder.repeats for folder in self.train if folder.entry == entry)

    @property
    def bucketing(self) -> Bucketing:
        """The options of the first entry; the only ones unless a config has several."""
        return self.bucketings[0]


def read_training(
    folder: Path | None,
    config: Path | None,
    *,
    bucketing: Bucketing,
    captions: CaptionRules = PLAIN_CAPTIONS,
    validation: ValidationSplit = NO_SPLIT,
    repeats: int | None = None,
) -> TrainingSet:
    """Read a ``--train_data_dir`` or a ``--dataset_config``; exactly one of the two is given.

    ``bucketing``, ``captions`` and ``validation`` are what the trainer's command line says; a config's own words go
    over them. With ``repeats`` the images are in the folder itself. Raises JobError with every problem at once.
    """
    if (folder is None) == (config is None):
        raise JobError(str(folder or config or "training"), (Problem("", "give either a folder or a config"),))
    if config is not None:
        return read_entries(read_config(config, bucketing, captions, validation), str(config))
    assert folder is not None
    if problems := _folder_problems(folder, bucketing, repeats):
        raise JobError(str(folder), problems)
    known = size_text(bucketing.resolution) if bucketing.is_known else "unknown"
    options = (OptionInForce("resolution", known, "as given"),)
    entry = DatasetEntry(bucketing, train_subsets(folder, captions, repeats), options, validation)
    return read_entries((entry,), str(folder))


def _folder_problems(folder: Path, bucketing: Bucketing, repeats: int | None) -> tuple[Problem, ...]:
    problems = [Problem("", f"kohya does not start: {problem}") for problem in bucketing.problems()]
    if not folder.is_dir():
        problems.append(Problem("", "there is no such folder"))
    elif not any(image_names(subset.folder) for subset in train_subsets(folder, PLAIN_CAPTIONS, repeats)):
        problems.append(Problem("", "kohya finds no images in it", _level_hint(folder, repeats)))
    return tuple(problems)


def _level_hint(folder: Path, repeats: int | None) -> str:
    if repeats is not None:
        return "leave training.repeats out where the images are in sub-folders named N_words"
    flat = "; for a flat folder write training.repeats, and it is read itself" if image_names(folder) else ""
    return level_hint(folder) + flat


def read_entries(entries: tuple[DatasetEntry, ...], name: str) -> TrainingSet:
    """Read the train images of these entries. Raises JobError, under ``name``, with every problem at once."""
    reader = _ImageReader()
    with without_pillow_warnings():
        images = tuple(
            image
            for number, entry in enumerate(entries)
            for subset in entry.train
            for image in reader.images(subset, entry, number)
        )
    if not images and not reader.problems:
        reader.problems += [_missing(folder) for folder in dict.fromkeys(reader.missing)]
        reader.problems.append(Problem("", "no folder of it without is_reg holds an image"))
    if reader.problems:
        raise JobError(name, tuple(reader.first_problems()))
    numbered = list(enumerate(entries))
    return TrainingSet(
        images,
        tuple(entry.bucketing for entry in entries),
        tuple(entry.options for entry in entries),
        tuple(_count(number, one, entry.validation) for number, entry in numbered for one in entry.train),
        tuple(_count(number, one, NO_SPLIT) for number, entry in numbered for one in entry.reg),
        tuple(entry.validation for entry in entries),
        tuple(dict.fromkeys(reader.missing)),
    )


def _missing(folder: Path) -> Problem:
    hint = "a relative image_dir is relative to the folder where the trainer is started"
    return Problem(str(folder), "holds no image" if folder.is_dir() else "there is no such folder", hint)


def _count(entry: int, subset: Subset, validation: ValidationSplit) -> SubsetCount:
    images = validation.count(len(image_names(subset.folder)))
    return SubsetCount(entry, subset.folder, images, subset.repeats)


@dataclass(slots=True)
class _ImageReader:
    """Reads folders one after another, each file once, and keeps their problems."""

    problems: list[Problem] = field(default_factory=list)
    missing: list[Path] = field(default_factory=list)
    known: dict[Path, ImageInfo] = field(default_factory=dict)  # a folder may be named by several entries

    def images(self, subset: Subset, entry: DatasetEntry, number: int) -> Iterator[TrainingImage]:
        names = image_names(subset.folder)
        if not names:
            self.missing.append(subset.folder)
        if not names and entry.validation.share > 0:
            problem = "holds no image, and with a validation_split kohya stops on it: ValueError"
            self.problems.append(Problem(str(subset.folder), problem))
        for name in entry.validation.trained(names):
            path = subset.folder / name
            info = self.known.get(path) or self.known.setdefault(path, read_header(path))
            caption = self._caption(read_caption(path, subset.caption_rules), path)
            bucket = self._bucket(info, entry.bucketing, path)
            if info.size and bucket:
                yield TrainingImage(path, info.size, subset.repeats, caption, bucket, number, subset.caption_rules)

    def first_problems(self) -> Iterator[Problem]:
        """The problems that are named, and the number of the others."""
        yield from self.problems[:_NAMED]
        if len(self.problems) > _NAMED:
            yield Problem("", f"and {len(self.problems) - _NAMED:,} more like these")

    def _bucket(self, info: ImageInfo, bucketing: Bucketing, path: Path) -> Size | None:
        if info.size is None or info.kohya_size is None:
            what = "is empty" if ImageFlaw.EMPTY in info.flaws else "is not an image"
            self.problems.append(Problem(str(path), what, info.details))
            return None
        if not bucketing.is_known:
            return info.kohya_size
        try:
            return bucketing.bucket(*info.kohya_size)
        except NoBucket as error:
            self.problems.append(Problem(str(path), "has no bucket", str(error)))
            return None

    def _caption(self, caption: Caption, image: Path) -> str:
        if caption.fault and caption.fault.stops_training:
            what = "is empty" if caption.fault is CaptionFault.EMPTY else "is not UTF-8"
            problem = f"{what}, which stops the training"
            self.problems.append(Problem(str(caption.file), problem, f"the caption of {image.name}"))
        return caption.text.removeprefix("\ufeff")
