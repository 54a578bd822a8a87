"""The doctor's options, and the folders the trainer would read: the right level, or a finding that says it is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from reggen.diagnosis.findings import Finding
from reggen.errors import JobError, Problem
from reggen.kohya.buckets import Bucketing
from reggen.kohya.captions import PLAIN_CAPTIONS, CaptionRules
from reggen.kohya.folders import folder_name
from reggen.kohya.validation import NO_SPLIT, ValidationSplit
from reggen.training.dataset_config import read_config
from reggen.training.subsets import (
    DatasetEntry,
    Subset,
    captions_of,
    effective,
    image_names,
    level_hint,
    subsets_in,
    train_subsets,
)
from reggen.training.training_set import TrainingSet, read_entries, read_training


@dataclass(frozen=True, slots=True)
class DoctorOptions:
    """The set to examine, and the trainer's options.

    ``folder`` is the reg set; of ``train`` and ``config`` at most one is given. ``bucketing``, ``captions`` and
    ``validation`` are the trainer's command line; with ``repeats`` the train images are in ``train`` itself. ``quick``
    reads headers only. ``near_duplicates``: pictures that look
    like another are sought, too, unless ``quick``. ``expected_folders`` are the names of the class folders of the job
    that makes the set, where one is known. ``find_forbidden`` returns the forbidden word in a text, or None.
    ``redo_command`` has images made again when their numbers are added; empty where no job is known, or it has several
    classes.
    """

    folder: Path
    train: Path | None = None
    config: Path | None = None
    bucketing: Bucketing = field(default_factory=lambda: Bucketing((512, 512), is_known=False))
    captions: CaptionRules = PLAIN_CAPTIONS
    validation: ValidationSplit = NO_SPLIT
    repeats: int | None = None
    quick: bool = False
    near_duplicates: bool = True
    expected_folders: frozenset[str] | None = None
    find_forbidden: Callable[[str], str | None] | None = None
    redo_command: str = ""


@dataclass(frozen=True, slots=True)
class Scope:
    """The folders the trainer reads. ``by_name``: folder names carry repeats and class tokens, as without a config."""

    root: Path
    entries: tuple[DatasetEntry, ...]
    training: TrainingSet | None
    findings: tuple[Finding, ...] = ()
    by_name: bool = True

    @property
    def train_images(self) -> list[Path]:
        """The paths of the train images."""
        return [image.path for image in self.training.images] if self.training else []


def find_scope(options: DoctorOptions) -> Scope:
    """Find the level and the folders. Raises JobError where there is nothing to examine, or no training to read."""
    if not options.folder.is_dir():
        raise JobError(str(options.folder), (Problem("", "there is no such folder"),))
    if options.train and options.config:
        raise JobError(str(options.config), (Problem("--config", "give either --config or --train, not both"),))
    if problems := options.bucketing.problems():
        raise JobError(str(options.folder), tuple(Problem("", f"kohya does not start: {one}") for one in problems))
    return _by_config(options, options.config) if options.config else _by_folder(options)


def _by_folder(options: DoctorOptions) -> Scope:
    root, reg, findings = _level(options.folder, options.captions)
    by_name = not reg or reg[0].folder != root  # a class folder may stand for the whole
    training, train = None, tuple[Subset, ...]()
    if options.train:
        training = read_training(
            options.train,
            None,
            bucketing=options.bucketing,
            captions=options.captions,
            validation=options.validation,
            repeats=options.repeats,
        )
        train = train_subsets(options.train, options.captions, options.repeats)
    return Scope(root, (DatasetEntry(options.bucketing, effective((*train, *reg))),), training, findings, by_name)


def _by_config(options: DoctorOptions, config: Path) -> Scope:
    entries = read_config(config, options.bucketing, options.captions, options.validation)
    training, folder = read_entries(entries, str(config)), options.folder.resolve()
    reg_folders = [subset.folder.resolve() for entry in entries for subset in entry.reg]
    if any(folder in {named, *named.parents} for named in reg_folders):
        return Scope(options.folder, entries, training, by_name=False)
    root, reg, _ = _level(options.folder, options.captions)
    joined = replace(entries[0], subsets=effective((*entries[0].subsets, *reg)))
    missing = Finding("not-in-config", (options.folder,))
    return Scope(root, (joined, *entries[1:]), training, (missing,), by_name=False)


def _level(folder: Path, captions: CaptionRules) -> tuple[Path, tuple[Subset, ...], tuple[Finding, ...]]:
    """The folder that is --reg_data_dir and its class folders, from one that may be a level too low or too high."""
    reg = subsets_in(folder, captions, is_reg=True)
    if _hold_images(reg):
        return folder, reg, ()
    finding = (Finding("level", (folder,), own_remedy=level_hint(folder)),)
    if image_names(folder):
        if folder_name(folder.resolve().name):
            above = folder.parent if folder.name else folder.resolve().parent
            return above, subsets_in(above, captions, is_reg=True), finding
        return folder, (Subset(folder, 1, True, captions_of(captions, folder.resolve().name)),), finding
    for below in sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        inner = subsets_in(below, captions, is_reg=True)
        if _hold_images(inner):
            return below, inner, finding
    return folder, reg, finding


def _hold_images(subsets: tuple[Subset, ...]) -> bool:
    return any(image_names(subset.folder) for subset in subsets)
