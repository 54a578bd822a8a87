"""What the doctor found, for people and for programs."""

from __future__ import annotations

import os.path
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from reggen.diagnosis.findings import Finding, Severity
from reggen.diagnosis.model import DoctorReport, EntryReport, FolderReport, TrainingStop
from reggen.geometry import Size
from reggen.kohya.buckets import Bucketing

_SHOWN = 5  # files of one finding, buckets of one folder
_STOPS = {
    TrainingStop.START: "kohya would end on this at its start.",
    TrainingStop.LOAD: "kohya would start with this, and end when it loads or caches the first bad image.",
}


def words(examination: DoctorReport, then: str = "") -> str:
    """The whole examination for a terminal; ``then`` is what is to be done after it, and all is not well before."""
    lines = [f"{examination.root} as kohya reads it"]
    for number, entry in enumerate(examination.entries):
        name = f"[[datasets]] {number + 1}: " if len(examination.entries) > 1 else ""
        lines.append(f"  {name}{_options(entry.bucketing)}; {_slots(entry)}")
        for folder in examination.folders:
            if folder.entry == number:
                lines.extend(_folder(folder, entry))
    for finding in examination.findings:
        lines.extend(_finding(finding, examination.root))
    verdict = [] if then and examination.well else [_verdict(examination)]
    return "\n".join([*lines, *verdict, *([then] if then else [])])


def _options(bucketing: Bucketing) -> str:
    if not bucketing.enabled:
        return f"no buckets, everything cut to {_by(bucketing.resolution)}"
    low, high = bucketing.limits
    limits = "without upscaling" if bucketing.no_upscale else f"sides of {low} to {high}"
    return f"buckets at {_by(bucketing.resolution)}, {limits} in steps of {bucketing.steps}"


def _slots(entry: EntryReport) -> str:
    return "no training set given" if entry.total is None else f"{entry.total:,} train images with their repeats"


def _folder(folder: FolderReport, entry: EntryReport) -> Iterator[str]:
    subset = folder.subset
    tokens = subset.caption_rules.class_tokens
    named = f"class tokens {tokens!r}" if tokens is not None else "no class tokens"
    count = f"{folder.images:,} image{'s' if folder.images != 1 else ''}"
    yield f"  {subset.folder}: {count}, repeats {subset.repeats}, {named}"
    yield f"    used      {_used(folder)}"
    yield f"    captions  {', '.join(_captions(folder)) or 'none'} (the trainer reads {subset.caption_rules.ending})"
    yield f"    buckets   {_buckets(folder, entry)}"


def _captions(folder: FolderReport) -> Iterator[str]:
    """How many from where, and of all but the commonest source which ones."""
    counts = folder.captions
    for source, count in sorted(counts.items()):
        named = (name for name, its in folder.caption_sources.items() if its is source)
        odd = source != counts.most_common(1)[0][0]
        yield f"{count:,} from {source}" + (f" ({_capped(list(islice(named, _SHOWN)), count)})" if odd else "")


def _capped(first: Sequence[str], count: int) -> str:
    """The first few of so many names."""
    return ", ".join(first) + (f" and {count - len(first):,} more" if count > len(first) else "")


def _used(folder: FolderReport) -> str:
    if not folder.used:
        return "none"
    often = f"{max(folder.least, 1)} to {folder.most} times" if folder.most > max(folder.least, 1) else "once each"
    if folder.most > 1 and folder.most == folder.least:
        often = f"{folder.most} times each"
    rest = f"; {folder.images - folder.used:,} never" if folder.used < folder.images else ""
    return f"{folder.used:,} of {folder.images:,}, {often}{rest}"


def _buckets(folder: FolderReport, entry: EntryReport) -> str:
    shown = []
    for size, count in folder.buckets.most_common(_SHOWN):
        train = (
            "" if entry.total is None else f", train {entry.buckets[size]}" if size in entry.buckets else ", reg only"
        )
        shown.append(f"{_by(size)} ({count}{train})")
    more = len(folder.buckets) - _SHOWN
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "") or "none"


def _by(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def _finding(finding: Finding, root: Path) -> Iterator[str]:
    count = f"{len(finding.files):,} x " if len(finding.files) > 1 else ""
    yield f"{finding.severity:<8} {count}{finding.what}"
    named = _capped([_within(file, root) for file in finding.files[:_SHOWN]], len(finding.files))
    if len(finding.files) == 1 and finding.details:
        yield f"         {named}: {finding.details}"
    else:
        yield from (f"         {line}" for line in (named, finding.details) if line)
    if finding.remedy:
        yield f"         -> {finding.remedy}"


def _within(file: Path, root: Path) -> str:
    return os.path.relpath(file, root) if file.is_relative_to(root) and file != root else str(file)


def _verdict(examination: DoctorReport) -> str:
    count = Counter(finding.severity for finding in examination.findings)
    if examination.well:
        return "All is well."
    named = [
        f"{count[severity]} {severity}{'s' if count[severity] > 1 else ''}"
        for severity in (Severity.ERROR, Severity.WARNING)
        if count[severity]
    ]
    stop = f" {_STOPS[examination.stop]}" if examination.stop else ""
    return f"{' and '.join(named)}.{stop}"


def as_json(examination: DoctorReport) -> dict[str, Any]:
    """The same for programs; sizes are [width, height]."""
    return {
        "reg_data_dir": str(examination.root),
        "well": examination.well,
        "kohya_stops_at": examination.stop,
        "datasets": [_entry_json(entry) for entry in examination.entries],
        "folders": [_folder_json(folder) for folder in examination.folders],
        "findings": [_finding_json(finding) for finding in examination.findings],
    }


def _entry_json(entry: EntryReport) -> dict[str, Any]:
    bucketing = entry.bucketing
    return {
        "train_slots": entry.total,
        "resolution": bucketing.resolution,
        "enable_bucket": bucketing.enabled,
        "min_bucket_reso": bucketing.min_reso,
        "max_bucket_reso": bucketing.max_reso,
        "bucket_reso_steps": bucketing.steps,
        "bucket_no_upscale": bucketing.no_upscale,
        "train_buckets": _buckets_json(entry.buckets),
    }


def _folder_json(folder: FolderReport) -> dict[str, Any]:
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
        "buckets": _buckets_json(folder.buckets),
    }


def _buckets_json(buckets: dict[Size, int]) -> list[dict[str, Any]]:
    return [{"size": size, "count": count} for size, count in sorted(buckets.items())]


def _finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "severity": finding.severity,
        "what": finding.what,
        "files": [str(file) for file in finding.files],
        "details": finding.details,
        "remedy": finding.remedy,
        "fixed_by_fix": finding.fixable,
    }
