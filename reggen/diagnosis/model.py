"""The doctor's report, as plain values."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from reggen.diagnosis.findings import Finding, Severity
from reggen.geometry import Size
from reggen.kohya.buckets import Bucketing
from reggen.training.captions import Caption, CaptionSource
from reggen.training.subsets import Subset


class TrainingStop(StrEnum):
    """The moment at which kohya would stop on this set."""

    START = "start"
    LOAD = "load"
    """Hours later, when it loads or caches an image."""


@dataclass(frozen=True, slots=True)
class ImageUse:
    """One image as one ``[[datasets]]`` entry uses it: how often, with which caption, in which bucket if any.

    ``trained`` are the texts that kohya makes of the caption; empty where it stops the training.
    """

    path: Path
    entry: int
    uses: int
    caption: Caption
    bucket: Size | None
    trained: tuple[str, ...] = ()


@dataclass(slots=True)
class FolderReport:
    """One class folder in one entry. ``uses`` has a number for each of its images, in kohya's order.

    ``unused`` are the names of those that are never used, ``caption_sources`` says by name where each caption comes
    from, ``buckets`` counts the images that are used, and ``enlargements`` are the factors by which these are enlarged.
    """

    subset: Subset
    entry: int
    uses: list[int] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    buckets: Counter[Size] = field(default_factory=Counter)
    caption_sources: dict[str, CaptionSource] = field(default_factory=dict)
    enlargements: list[float] = field(default_factory=list)

    @property
    def images(self) -> int:
        """The number of images in the folder."""
        return len(self.uses)

    @property
    def used(self) -> int:
        """The number of images that are used."""
        return sum(map(bool, self.uses))

    @property
    def slots(self) -> int:
        """The uses of all images together."""
        return sum(self.uses)

    @property
    def most(self) -> int:
        """The uses of the most used image."""
        return max(self.uses, default=0)

    @property
    def least(self) -> int:
        """The uses of the least used image."""
        return min(self.uses, default=0)

    @property
    def captions(self) -> Counter[CaptionSource]:
        """The number of captions by their source."""
        return Counter(self.caption_sources.values())


@dataclass(frozen=True, slots=True)
class EntryReport:
    """One ``[[datasets]]`` entry and its train images, repeats included: their total and their buckets.

    Without a training set ``total`` is None and ``buckets`` is empty. ``enlargements`` has the factor of each image.
    """

    bucketing: Bucketing
    total: int | None
    buckets: dict[Size, int]
    enlargements: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """The result of an examination. ``root`` is the folder to give as --reg_data_dir; the worst findings come first."""

    root: Path
    entries: tuple[EntryReport, ...]
    folders: tuple[FolderReport, ...]
    findings: tuple[Finding, ...]
    stop: TrainingStop | None

    @property
    def well(self) -> bool:
        """True where there is neither an error nor a warning."""
        return all(finding.severity is Severity.NOTE for finding in self.findings)
