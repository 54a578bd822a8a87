"""What the doctor is asked, and where the trainer would look for it: the right level, or what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from reggen.diagnosis.findings import Finding
from reggen.errors import JobError, Problem
from reggen.kohya.buckets import Bucketing
from reggen.kohya.captions import CaptionRules, with_dot
from reggen.kohya.folders import folder_name
from reggen.training.dataset_config import read_config
from reggen.training.subsets import DatasetEntry, Subset, effective, image_names, level_hint, subsets_in
from reggen.training.training_set import TrainingSet, read_entries, read_training


@dataclass(frozen=True, slots=True)
class DoctorOptions:
    """What is examined, and as which trainer's options.

    ``folder`` is the reg set; of ``train`` and ``config`` at most one is given. ``bucketing`` and ``ending`` are
    the trainer's command line. ``quick`` reads headers only. ``expected`` names the class folders of the job
    that makes the set, where one is known. ``alike``: pictures that look like another are sought, too, unless
    ``quick``. ``find_forbidden`` says which forbidden word a text holds, or None. ``redo`` is the command that has
    images made again, to which their numbers are added; empty where no job is known, or it has several classes.
    """

    folder: Path
    train: Path | None = None
    config: Path | None = None
    bucketing: Bucketing = field(default_factory=lambda: Bucketing((512, 512)))
    ending: str = ".caption"
    quick: bool = False
    alike: bool = True
    expected: frozenset[str] | None = None
    find_forbidden: Callable[[str], str | None] | None = None
    redo: str = ""


@dataclass(frozen=True, slots=True)
class Scope:
    """What the trainer reads. ``by_name``: the folders' names mean something, as they do without a config."""

    root: Path
    entries: tuple[DatasetEntry, ...]
    training: TrainingSet | None
    findings: tuple[Finding, ...] = ()
    by_name: bool = True


def pointed(question: DoctorOptions) -> Scope:
    """Find the level and the folders. Raises JobError where there is nothing to examine, or no training to read."""
    if not question.folder.is_dir():
        raise JobError(str(question.folder), (Problem("", "there is no such folder"),))
    if question.train and question.config:
        raise JobError(str(question.config), (Problem("--config", "and --train say the same thing twice"),))
    if problems := question.bucketing.problems():
        raise JobError(str(question.folder), tuple(Problem("", f"kohya does not start: {one}") for one in problems))
    return _by_config(question, question.config) if question.config else _by_folder(question)


def _by_folder(question: DoctorOptions) -> Scope:
    root, reg, findings = _level(question.folder, question.ending)
    by_name = not reg or reg[0].folder != root  # a class folder may stand for the whole
    training, train = None, tuple[Subset, ...]()
    if question.train:
        training = read_training(question.train, None, bucketing=question.bucketing, caption_ending=question.ending)
        train = subsets_in(question.train, question.ending, is_reg=False)
    return Scope(root, (DatasetEntry(question.bucketing, effective((*train, *reg))),), training, findings, by_name)


def _by_config(question: DoctorOptions, config: Path) -> Scope:
    entries = read_config(config, question.bucketing, question.ending)
    training, here = read_entries(entries, str(config)), question.folder.resolve()
    named = [subset.folder.resolve() for entry in entries for subset in entry.reg]
    if any(here in {folder, *folder.parents} for folder in named):
        return Scope(question.folder, entries, training, by_name=False)
    root, reg, _ = _level(question.folder, question.ending)
    joined = replace(entries[0], subsets=effective((*entries[0].subsets, *reg)))
    missing = Finding("not-in-config", (question.folder,))
    return Scope(root, (joined, *entries[1:]), training, (missing,), by_name=False)


def _level(folder: Path, ending: str) -> tuple[Path, tuple[Subset, ...], tuple[Finding, ...]]:
    """The folder that is --reg_data_dir and its class folders, from one that may be a level too low or too high."""
    reg = subsets_in(folder, ending, is_reg=True)
    if any(image_names(subset.folder) for subset in reg):
        return folder, reg, ()
    finding = (Finding("level", (folder,), cure=level_hint(folder)),)
    if image_names(folder):
        if folder_name(folder.resolve().name):
            above = folder.parent if folder.name else folder.resolve().parent
            return above, subsets_in(above, ending, is_reg=True), finding
        return folder, (Subset(folder, 1, True, CaptionRules(with_dot(ending), folder.resolve().name)),), finding
    for below in sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        inner = subsets_in(below, ending, is_reg=True)
        if any(image_names(subset.folder) for subset in inner):
            return below, inner, finding
    return folder, reg, finding
