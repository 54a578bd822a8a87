"""The doctor's report as text for people and as data for programs."""

from __future__ import annotations

import os.path
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from reggen.diagnosis.findings import Finding, Severity
from reggen.diagnosis.model import DoctorReport, EntryReport, FolderReport, TrainingStop
from reggen.geometry import Size
from reggen.kohya.buckets import Bucketing
from reggen.wording import first_few, plural

_SHOWN = 5  # files of one finding, or buckets of one folder, that are listed
_STOPS = {
    TrainingStop.START: "kohya would stop at its start.",
    TrainingStop.LOAD: "kohya would start, and stop when it loads or caches the first bad image.",
}


def format_doctor_report(report: DoctorReport, then: str = "") -> str:
    """The report, several lines; ``then`` is a last line on what to do next, and replaces "All is well."."""
    lines = [f"{report.root} as kohya reads it"]
    for number, entry in enumerate(report.entries):
        name = f"[[datasets]] {number + 1}: " if len(report.entries) > 1 else ""
        lines.append(f"  {name}{_options(entry.bucketing)}; {_training_images(entry)}")
        folders = [folder for folder in report.folders if folder.entry == number]
        lines.extend(line for folder in folders for line in _folder(folder, entry))
    lines.extend(line for finding in report.findings for line in _finding(finding, report.root))
    verdict = [] if then and report.well else [_verdict(report)]
    return "\n".join([*lines, *verdict, *([then] if then else [])])


def _options(bucketing: Bucketing) -> str:
    if not bucketing.is_known:
        return "no resolution given"
    if not bucketing.enabled:
        return f"no buckets, all images cut to {_pixels(bucketing.resolution)}"
    low, high = bucketing.limits
    limits = "without upscaling" if bucketing.no_upscale else f"sides of {low} to {high}"
    return f"buckets at {_pixels(bucketing.resolution)}, {limits} in steps of {bucketing.steps}"


def _training_images(entry: EntryReport) -> str:
    if entry.total is None:
        return "no training set given"
    return f"{plural(entry.total, 'train image')}, repeats included"


def _folder(folder: FolderReport, entry: EntryReport) -> Iterator[str]:
    subset = folder.subset
    tokens = subset.caption_rules.class_tokens
    named = f"class tokens {tokens!r}" if tokens is not None else "no class tokens"
    yield f"  {subset.folder}: {plural(folder.images, 'image')}, repeats {subset.repeats}, {named}"
    yield f"    used      {_used(folder)}"
    yield f"    captions  {', '.join(_captions(folder)) or 'none'} (the trainer reads {subset.caption_rules.ending})"
    yield f"    buckets   {_buckets(folder, entry)}"


def _captions(folder: FolderReport) -> Iterator[str]:
    """The number of captions from each source, with names for all sources but the most common."""
    counts = folder.captions
    for source, count in sorted(counts.items()):
        named = (name for name, its in folder.caption_sources.items() if its is source)
        is_common = source == counts.most_common(1)[0][0]
        names = "" if is_common else f" ({first_few(list(islice(named, _SHOWN)), _SHOWN, count)})"
        yield f"{count:,} from {source}{names}"


def _used(folder: FolderReport) -> str:
    if not folder.used:
        return "none"
    least = max(folder.least, 1)
    often = "once each" if folder.most == 1 else f"{folder.most} times each"
    if folder.most > least:
        often = f"{least} to {folder.most} times"
    rest = f"; {folder.images - folder.used:,} never" if folder.used < folder.images else ""
    return f"{folder.used:,} of {folder.images:,}, {often}{rest}"


def _buckets(folder: FolderReport, entry: EntryReport) -> str:
    def bucket(size: Size, count: int) -> str:
        if entry.total is None:
            return f"{_pixels(size)} ({count})"
        train = f"train {entry.buckets[size]}" if size in entry.buckets else "reg only"
        return f"{_pixels(size)} ({count}, {train})"

    shown = [bucket(size, count) for size, count in folder.buckets.most_common(_SHOWN)]
    return first_few(shown, _SHOWN, len(folder.buckets)) or "none"


def _pixels(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def _finding(finding: Finding, root: Path) -> Iterator[str]:
    count = f"{len(finding.files):,} x " if len(finding.files) > 1 else ""
    yield f"{finding.severity:<8} {count}{finding.what}"
    named = first_few([_relative(file, root) for file in finding.files[:_SHOWN]], _SHOWN, len(finding.files))
    if len(finding.files) == 1 and finding.details:
        yield f"         {named}: {finding.details}"
    else:
        yield from (f"         {line}" for line in (named, finding.details) if line)
    if finding.remedy:
        yield f"         -> {finding.remedy}"


def _relative(file: Path, root: Path) -> str:
    return os.path.relpath(file, root) if file.is_relative_to(root) and file != root else str(file)


def _verdict(report: DoctorReport) -> str:
    count = Counter(finding.severity for finding in report.findings)
    if report.well:
        return "All is well."
    bad = [severity for severity in (Severity.ERROR, Severity.WARNING) if count[severity]]
    named = [plural(count[severity], severity) for severity in bad]
    stop = f" {_STOPS[report.stop]}" if report.stop else ""
    return f"{' and '.join(named)}.{stop}"


def doctor_report_data(report: DoctorReport) -> dict[str, Any]:
    """The report for programs; sizes are [width, height]."""
    return {
        "reg_data_dir": str(report.root),
        "well": report.well,
        "kohya_stops_at": report.stop,
        "datasets": [_entry_data(entry) for entry in report.entries],
        "folders": [_folder_data(folder) for folder in report.folders],
        "findings": [_finding_data(finding) for finding in report.findings],
    }


def _entry_data(entry: EntryReport) -> dict[str, Any]:
    bucketing = entry.bucketing
    return {
        "train_slots": entry.total,
        "resolution": bucketing.resolution if bucketing.is_known else None,
        "enable_bucket": bucketing.enabled,
        "min_bucket_reso": bucketing.min_reso,
        "max_bucket_reso": bucketing.max_reso,
        "bucket_reso_steps": bucketing.steps,
        "bucket_no_upscale": bucketing.no_upscale,
        "train_buckets": _buckets_data(entry.buckets),
    }


def _folder_data(folder: FolderReport) -> dict[str, Any]:
    return {
        "folder": str(folder.subset.folder),
        "dataset": folder.entry,
        "repeats": folder.subset.repeats,
        "class_tokens": folder.subset.caption_rules.class_tokens,
        "caption_extension": folder.subset.caption_rules.ending,
        "images": folder.images,
        "used": folder.used,
        "not_used": folder.images - folder.used,
        "slots": folder.slots,
        "uses": [folder.least, folder.most],
        "captions": dict(folder.captions),
        "caption_sources": folder.caption_sources,
        "never_used": folder.unused,
        "buckets": _buckets_data(folder.buckets),
    }


def _buckets_data(buckets: dict[Size, int]) -> list[dict[str, Any]]:
    return [{"size": size, "count": count} for size, count in sorted(buckets.items())]


def _finding_data(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "severity": finding.severity,
        "what": finding.what,
        "files": [str(file) for file in finding.files],
        "details": finding.details,
        "remedy": finding.remedy,
        "fixed_by_fix": finding.fixable,
    }
