"""What an examination of a reg set holds: reports, findings, and what there is to say about the use of its images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from reggen.diagnosis.findings import Finding, Severity
from reggen.geometry import Size
from reggen.kohya.buckets import Bucketing
from reggen.training.captions import Caption, CaptionSource
from reggen.training.subsets import Subset


class TrainingStop(StrEnum):
    """When kohya would end on this set: at its start, or hours later, when it loads or caches an image."""

    START = "start"
    LOAD = "load"


@dataclass(frozen=True, slots=True)
class ImageUse:
    """One image as one ``[[datasets]]`` entry uses it: how often, under which caption, in which bucket if any."""

    path: Path
    entry: int
    uses: int
    caption: Caption
    bucket: Size | None


@dataclass(slots=True)
class FolderReport:
    """One class folder in one entry. ``used`` and ``buckets`` count images, ``slots`` their uses.

    ``most`` and ``least`` are how often the most and the least used image is; ``unused`` are the names of those that
    never are, ``sources`` says by name where each caption comes from.
    """

    subset: Subset
    entry: int
    images: int = 0
    used: int = 0
    slots: int = 0
    most: int = 0
    least: int = 0
    buckets: Counter[Size] = field(default_factory=Counter)
    unused: list[str] = field(default_factory=list)
    sources: dict[str, CaptionSource] = field(default_factory=dict)

    @property
    def captions(self) -> Counter[CaptionSource]:
        """How many captions come from where."""
        return Counter(self.sources.values())


@dataclass(frozen=True, slots=True)
class EntryReport:
    """One ``[[datasets]]`` entry: T and the train images' buckets, or None and none without a training set."""

    bucketing: Bucketing
    total: int | None
    buckets: dict[Size, int]


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """What was found. ``root`` is the folder to give as --reg_data_dir; ``findings`` are the worst first."""

    root: Path
    entries: tuple[EntryReport, ...]
    folders: tuple[FolderReport, ...]
    findings: tuple[Finding, ...]
    stop: TrainingStop | None

    @property
    def well(self) -> bool:
        """Is there neither an error nor a warning?"""
        return all(finding.severity is Severity.NOTE for finding in self.findings)


def of_use(entry: EntryReport, folders: Sequence[FolderReport]) -> Iterator[Finding]:
    """What there is to say about the number and the sizes of an entry's images."""
    reports = [report for report in folders if report.images]
    images, used = sum(report.images for report in reports), sum(report.used for report in reports)
    if entry.bucketing.enabled and entry.bucketing.steps % 64:
        yield Finding("steps", details=f"bucket_reso_steps is {entry.bucketing.steps}")
    if not reports:
        return
    if entry.total is None:
        yield Finding("no-training")
        return
    if not entry.total:
        yield Finding("no-train-images", tuple(report.subset.folder for report in reports))
        return
    if used < images:
        yield _unused(entry.total, images, used, reports)
    elif (entry.total - sum(report.images * report.subset.repeats for report in reports)) % images > 0:
        yield Finding("uneven", details=f"{images} images for {entry.total} slots")
    reg = sum((report.buckets for report in reports), Counter[Size]())
    if alone := {size: count for size, count in reg.items() if size not in entry.buckets}:
        yield Finding("reg-bucket", details=_listed(alone))
    if empty := {size: count for size, count in entry.buckets.items() if size not in reg}:
        yield Finding("train-bucket", details=_listed(empty))


def _unused(total: int, images: int, used: int, reports: Sequence[FolderReport]) -> Finding:
    chance = "; which ones depends on the order in which the file system lists the folders" if len(reports) > 1 else ""
    repeats = f"; with repeats of 1 {min(images, total)} would be" if used < min(images, total) else ""
    details = f"{images - used} of {images}: the train images and their repeats make {total} slots{repeats}{chance}"
    files = tuple(report.subset.folder / name for report in reports for name in report.unused)
    return Finding("unused", files, details, cure=f"{total} images in all are enough, in folders named 1_words")


def _listed(buckets: dict[Size, int]) -> str:
    return ", ".join(f"{width}x{height} ({count})" for (width, height), count in sorted(buckets.items()))
