"""The use of a set's images: how often each is trained on, and findings about their number and sizes. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from reggen.diagnosis.findings import Finding
from reggen.diagnosis.listing import FolderListing
from reggen.diagnosis.model import EntryReport, FolderReport
from reggen.geometry import Size, size_text
from reggen.kohya.buckets import enlargement
from reggen.kohya.reg_use import reg_uses
from reggen.training.subsets import DatasetEntry
from reggen.training.training_set import TrainingSet
from reggen.wording import plural

_NOTED, _WARNED = 1.1, 1.5  # enlargements
_STEPS = 64  # the bucket_reso_steps that every script of kohya takes


def entry_report(number: int, entry: DatasetEntry, training: TrainingSet | None) -> EntryReport:
    """The report of one entry, given its number in the training set."""
    if training is None:
        return EntryReport(entry.bucketing, None, {})
    buckets: Counter[Size] = Counter()
    images = [image for image in training.images if image.entry == number]
    for image in images:
        buckets[image.bucket] += image.repeats
    factors = tuple(enlargement(image.size, image.bucket) for image in images)
    return EntryReport(entry.bucketing, training.total_of(number), dict(buckets), factors)


def folder_reports(
    number: int, entry: DatasetEntry, total: int | None, listings: Mapping[Path, FolderListing]
) -> Iterator[FolderReport]:
    """A report for each reg folder of an entry; of a ``total`` that is not known each image is used once."""
    names = [[image.name for image in listings[subset.folder].images] for subset in entry.reg]
    counts = [(len(images), subset.repeats) for images, subset in zip(names, entry.reg, strict=True)]
    all_uses = reg_uses(total, counts) if total is not None else [[repeats] * images for images, repeats in counts]
    for subset, images, uses in zip(entry.reg, names, all_uses, strict=True):
        unused = [name for name, times in zip(images, uses, strict=True) if not times]
        yield FolderReport(subset, number, uses, unused)


def usage_findings(entry: EntryReport, folders: Sequence[FolderReport], *, by_name: bool = True) -> Iterator[Finding]:
    """Findings about the number and the sizes of an entry's images; after their buckets are known.

    ``by_name``: folder names carry repeats and class tokens, which a config says itself."""
    reports = [report for report in folders if report.images]
    if entry.bucketing.enabled and entry.bucketing.steps % _STEPS:
        yield Finding("steps", details=f"bucket_reso_steps is {entry.bucketing.steps}")
    if not entry.bucketing.is_known:
        yield Finding("no-resolution")
    else:
        yield from _enlarged("train", entry.enlargements)
        yield from _enlarged("reg", [factor for report in reports for factor in report.enlargements])
    if not reports:
        return
    if entry.total is None:
        yield Finding("no-training")
    elif not entry.total:
        yield Finding("no-train-images", tuple(report.subset.folder for report in reports))
    else:
        yield from _number_findings(entry.total, reports, by_name=by_name)
        yield from _bucket_findings(entry, reports) if entry.bucketing.is_known else ()


def _number_findings(total: int, reports: Sequence[FolderReport], *, by_name: bool) -> Iterator[Finding]:
    images = sum(report.images for report in reports)
    if sum(report.used for report in reports) < images:
        yield _unused(total, images, reports, by_name=by_name)
    elif (total - sum(report.images * report.subset.repeats for report in reports)) % images > 0:
        yield Finding("uneven", details=f"{plural(images, 'image')} for {plural(total, 'slot')}")


def _unused(total: int, images: int, reports: Sequence[FolderReport], *, by_name: bool) -> Finding:
    used = sum(report.used for report in reports)
    details = f"{images - used} of {images}: the train images and their repeats make {plural(total, 'slot')}"
    if used < min(images, total):
        details += f"; with repeats of 1 {min(images, total)} would be used"
    if len(reports) > 1:
        order = "the order in which the file system lists the folders" if by_name else "the order of the config"
        details += f"; which ones depends on {order}"
    files = tuple(report.subset.folder / name for report in reports for name in report.unused)
    where = "in folders named 1_words" if by_name else "with num_repeats = 1"
    remedy = f"{plural(total, 'image')} in all {'is' if total == 1 else 'are'} enough, {where}"
    return Finding("unused", files, details, own_remedy=remedy)


def _bucket_findings(entry: EntryReport, reports: Sequence[FolderReport]) -> Iterator[Finding]:
    reg = sum((report.buckets for report in reports), Counter[Size]())
    if reg_only := {size: count for size, count in reg.items() if size not in entry.buckets}:
        yield Finding("reg-bucket", details=_bucket_list(reg_only))
    if train_only := {size: count for size, count in entry.buckets.items() if size not in reg}:
        yield Finding("train-bucket", details=_bucket_list(train_only))


def _enlarged(which: str, factors: Sequence[float]) -> Iterator[Finding]:
    """The images that are enlarged by more than a tenth: a warning where the worst is enlarged by more than a half."""
    if enlarged := [factor for factor in factors if factor > _NOTED]:
        worst = max(enlarged)
        kind = "enlarged" if worst > _WARNED else "enlarged-little"
        yield Finding(
            kind, details=f"{len(enlarged):,} of {plural(len(factors), f'{which} image')}, up to {worst:.1f} times"
        )


def _bucket_list(buckets: Mapping[Size, int]) -> str:
    return ", ".join(f"{size_text(size)} ({count})" for size, count in sorted(buckets.items()))
