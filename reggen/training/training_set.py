"""A training set as kohya reads it: which images, how often, in which buckets, with which captions. Blocking."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from reggen.errors import JobError, Problem
from reggen.geometry import Size, size_text
from reggen.images.probe import ImageFlaw, ImageInfo, read_header, without_pillow_warnings
from reggen.kohya.buckets import Bucketing, NoBucket
from reggen.kohya.captions import PLAIN_CAPTIONS, CaptionRules
from reggen.training.captions import Caption, CaptionFault, read_caption
from reggen.training.dataset_config import read_config
from reggen.training.subsets import DatasetEntry, OptionInForce, Subset, image_names, level_hint, subsets_in

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


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """All train images in the trainer's order, and the options that hold for them.

    ``bucketings`` and ``options`` have one item for each ``[[datasets]]`` entry, which is one for a folder;
    ``with_reg`` are the numbers of the entries that name reg folders.
    """

    images: tuple[TrainingImage, ...]
    bucketings: tuple[Bucketing, ...]
    options: tuple[tuple[OptionInForce, ...], ...] = ()
    with_reg: tuple[int, ...] = ()

    @property
    def total(self) -> int:
        """The train images times their repeats: what an epoch shows, of all entries together."""
        return sum(image.repeats for image in self.images)

    def total_of(self, entry: int) -> int:
        """The same of one ``[[datasets]]`` entry: kohya uses as many of the entry's reg images."""
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
    folder: Path | None, config: Path | None, *, bucketing: Bucketing, captions: CaptionRules = PLAIN_CAPTIONS
) -> TrainingSet:
    """Read a ``--train_data_dir`` or a ``--dataset_config``; exactly one of the two is given.

    ``bucketing`` and ``captions`` are what the trainer's command line says; a config's own words go over
    them. Raises JobError with every problem at once.
    """
    if (folder is None) == (config is None):
        raise JobError(str(folder or config or "training"), (Problem("", "give either a folder or a config"),))
    if config is not None:
        return read_entries(read_config(config, bucketing, captions), str(config))
    assert folder is not None
    if problems := _folder_problems(folder, bucketing):
        raise JobError(str(folder), problems)
    options = (OptionInForce("resolution", size_text(bucketing.resolution), "as given"),)
    entry = DatasetEntry(bucketing, subsets_in(folder, captions, is_reg=False), options)
    return read_entries((entry,), str(folder))


def _folder_problems(folder: Path, bucketing: Bucketing) -> tuple[Problem, ...]:
    problems = [Problem("", f"kohya does not start: {problem}") for problem in bucketing.problems()]
    if not folder.is_dir():
        problems.append(Problem("", "there is no such folder"))
    elif not any(image_names(subset.folder) for subset in subsets_in(folder, PLAIN_CAPTIONS, is_reg=False)):
        problems.append(Problem("", "kohya finds no images in it", level_hint(folder)))
    return tuple(problems)


def read_entries(entries: tuple[DatasetEntry, ...], name: str) -> TrainingSet:
    """Read the train images of these entries. Raises JobError, under ``name``, with every problem at once."""
    reader = _ImageReader()
    with without_pillow_warnings():
        images = tuple(
            image
            for number, entry in enumerate(entries)
            for subset in entry.train
            for image in reader.images(subset, entry.bucketing, number)
        )
    if not images and not reader.problems:
        reader.problems.append(Problem("", "no folder of it without is_reg holds an image"))
    if reader.problems:
        raise JobError(name, tuple(reader.first_problems()))
    with_reg = tuple(number for number, entry in enumerate(entries) if entry.reg)
    return TrainingSet(images, tuple(e.bucketing for e in entries), tuple(e.options for e in entries), with_reg)


@dataclass(slots=True)
class _ImageReader:
    """Reads folders one after another, each file once, and keeps their problems."""

    problems: list[Problem] = field(default_factory=list)
    known: dict[Path, ImageInfo] = field(default_factory=dict)  # a folder may be named by several entries

    def images(self, subset: Subset, bucketing: Bucketing, entry: int) -> Iterator[TrainingImage]:
        if not subset.folder.is_dir():
            hint = "a relative image_dir is relative to the folder where the trainer is started"
            self.problems.append(Problem(str(subset.folder), "there is no such folder", hint))
            return
        for name in image_names(subset.folder):
            path = subset.folder / name
            info = self.known.get(path) or self.known.setdefault(path, read_header(path))
            caption = self._caption(read_caption(path, subset.caption_rules), path)
            bucket = self._bucket(info, bucketing, path)
            if info.size and bucket:
                yield TrainingImage(path, info.size, subset.repeats, caption, bucket, entry, subset.caption_rules)

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
