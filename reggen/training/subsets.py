"""What a trainer is pointed at, as a list of folders. Blocking; nothing of the images is read here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from reggen.kohya.rules import Bucketing, dotted, folder_name, is_image
from reggen.training.captions import CaptionRules


@dataclass(frozen=True, slots=True)
class Subset:
    """One folder of images with what the trainer does with it.

    ``cached``: kohya's cache_info is on, so a metadata_cache.json that lies there is read instead of the folder.
    """

    folder: Path
    repeats: int
    is_reg: bool
    reading: CaptionRules
    cached: bool = False


class OptionInForce(NamedTuple):
    """One option that is in force, and where it was said."""

    name: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class DatasetEntry:
    """One ``[[datasets]]`` entry; reg images are matched to the train images of their own entry only."""

    bucketing: Bucketing
    subsets: tuple[Subset, ...]
    settings: tuple[OptionInForce, ...] = ()

    @property
    def reg(self) -> tuple[Subset, ...]:
        """Its reg folders, in the trainer's order."""
        return tuple(subset for subset in self.subsets if subset.is_reg)

    @property
    def train(self) -> tuple[Subset, ...]:
        """Its train folders, in the trainer's order."""
        return tuple(subset for subset in self.subsets if not subset.is_reg)


def listed(parent: Path, ending: str, *, is_reg: bool) -> tuple[Subset, ...]:
    """The sub-folders of a ``--train_data_dir`` or ``--reg_data_dir`` that kohya reads, in the file system's order.

    config_util.py, generate_dreambooth_subsets_config_by_subdirs. Empty where there is no such folder.
    """
    if not parent.is_dir():
        return ()
    found = []
    for folder in parent.iterdir():
        if (meaning := folder_name(folder.name)) and folder.is_dir():
            repeats, words = meaning
            found.append(Subset(folder, repeats, is_reg, CaptionRules(dotted(ending), words)))
    return tuple(found)


def once(subsets: Iterable[Subset]) -> tuple[Subset, ...]:
    """Without later mentions of a folder and those of no repeats (train_util.py, DreamBoothDataset.__init__)."""
    found: dict[str, Subset] = {}
    for subset in subsets:
        if subset.repeats >= 1:
            found.setdefault(str(subset.folder), subset)
    return tuple(found.values())


def names_of_images(folder: Path) -> list[str]:
    """The images of a folder as kohya lists them: by the ending, not nested, in the plain order of strings."""
    try:
        return sorted(entry.name for entry in folder.iterdir() if is_image(entry.name))
    except OSError:
        return []


def advice(parent: Path) -> str:
    """Where a data dir holds no folder of images that kohya reads: which folder to give instead, or what to do."""
    if not names_of_images(parent):
        below = [folder for folder in _folders(parent) if any(folder_name(inner.name) for inner in _folders(folder))]
        if below:
            return f"give {below[0]}: it holds the folders named N_words"
        loose = [folder for folder in _folders(parent) if names_of_images(folder)]
        named = f"such as {loose[0].name} to 1_{loose[0].name}" if loose else "such as 1_words"
        return f"images are read from sub-folders named N_words only; {'rename' if loose else 'make'} one, {named}"
    if folder_name(parent.name):
        return f"the images lie in it themselves; give the folder above it: {parent.resolve().parent}"
    return f"the images lie in it themselves; move them into a sub-folder such as {parent / '1_words'}"


def _folders(parent: Path) -> list[Path]:
    try:
        return sorted(entry for entry in parent.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return []
