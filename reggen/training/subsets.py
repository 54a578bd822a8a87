"""The folders of images that a trainer is given, and their options. Blocking; no image is read here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from reggen.kohya.buckets import Bucketing
from reggen.kohya.captions import CaptionRules, with_dot
from reggen.kohya.folders import folder_name, is_image, suggested_name
from reggen.kohya.validation import NO_SPLIT, ValidationSplit


@dataclass(frozen=True, slots=True)
class Subset:
    """One folder of images and its options.

    ``cache_info``: kohya reads a metadata_cache.json in the folder, where there is one, instead of the folder.
    """

    folder: Path
    repeats: int
    is_reg: bool
    caption_rules: CaptionRules
    cache_info: bool = False


class OptionInForce(NamedTuple):
    """One option that is in force, and where it was said."""

    name: str
    value: str
    origin: str
    is_default: bool = False


@dataclass(frozen=True, slots=True)
class DatasetEntry:
    """One ``[[datasets]]`` entry; its reg images serve its own train images only."""

    bucketing: Bucketing
    subsets: tuple[Subset, ...]
    options: tuple[OptionInForce, ...] = ()
    validation: ValidationSplit = NO_SPLIT

    @property
    def reg(self) -> tuple[Subset, ...]:
        """Its reg folders, in the trainer's order."""
        return tuple(subset for subset in self.subsets if subset.is_reg)

    @property
    def train(self) -> tuple[Subset, ...]:
        """Its train folders, in the trainer's order."""
        return tuple(subset for subset in self.subsets if not subset.is_reg)


def subsets_in(data_dir: Path, captions: CaptionRules, *, is_reg: bool) -> tuple[Subset, ...]:
    """The sub-folders of a ``--train_data_dir`` or ``--reg_data_dir`` that kohya reads, in the file system's order.

    config_util.py, generate_dreambooth_subsets_config_by_subdirs. Empty where there is no such folder.
    """
    if not data_dir.is_dir():
        return ()
    found = []
    for folder in data_dir.iterdir():
        if (meaning := folder_name(folder.name)) and folder.is_dir():
            repeats, class_tokens = meaning
            found.append(Subset(folder, repeats, is_reg, captions_of(captions, class_tokens)))
    return tuple(found)


def train_subsets(folder: Path, captions: CaptionRules, repeats: int | None = None) -> tuple[Subset, ...]:
    """The train folders of a job: the folder itself with these ``repeats``, or its sub-folders as kohya reads them.

    Many trainers take a flat folder and have the repeats in their settings.
    """
    if repeats is None:
        return subsets_in(folder, captions, is_reg=False)
    return (Subset(folder, repeats, False, replace(captions, ending=with_dot(captions.ending))),)


def captions_of(rules: CaptionRules, class_tokens: str) -> CaptionRules:
    """The command line's rules for the captions of a folder with these class tokens."""
    return replace(rules, ending=with_dot(rules.ending), class_tokens=class_tokens)


def effective(subsets: Iterable[Subset]) -> tuple[Subset, ...]:
    """The subsets that count: the first of each folder, with repeats (train_util.py, DreamBoothDataset.__init__)."""
    found: dict[str, Subset] = {}
    for subset in subsets:
        if subset.repeats >= 1:
            found.setdefault(str(subset.folder), subset)
    return tuple(found.values())


def image_names(folder: Path) -> list[str]:
    """The images of a folder as kohya lists them: by the ending, not nested, in the plain order of strings."""
    try:
        return sorted(entry.name for entry in folder.iterdir() if is_image(entry.name))
    except OSError:
        return []


def level_hint(data_dir: Path) -> str:
    """The remedy where a data dir holds no folder of images that kohya reads: another folder, or another name."""
    if not image_names(data_dir):
        below = [folder for folder in _folders(data_dir) if any(folder_name(inner.name) for inner in _folders(folder))]
        if below:
            return f"give {below[0]}: it holds the folders named N_words"
        loose = [folder for folder in _folders(data_dir) if image_names(folder)]
        example = f"such as {loose[0].name} to {suggested_name(loose[0].name)}" if loose else "such as 1_words"
        return f"images are read from sub-folders named N_words only; {'rename' if loose else 'make'} one, {example}"
    if folder_name(data_dir.name):
        return f"the images lie in it themselves; give the folder above it: {data_dir.resolve().parent}"
    return f"the images lie in it themselves; move them into a sub-folder such as {data_dir / '1_words'}"


def skipped_folders(data_dir: Path) -> tuple[Path, ...]:
    """Sub-folders with images that kohya passes over because of their names."""
    return tuple(one for one in _folders(data_dir) if not folder_name(one.name) and image_names(one))


def _folders(parent: Path) -> list[Path]:
    try:
        return sorted(entry for entry in parent.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return []
