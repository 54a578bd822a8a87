"""``--fix``: the findings that can be mended without a loss. Nothing that somebody made is deleted. Blocking."""

from __future__ import annotations

import codecs
import glob
from collections.abc import Callable, Iterator
from pathlib import Path

from reggen.dataset.lock import lock_holder
from reggen.dataset.storage import storage_errors
from reggen.diagnosis.model import DoctorReport
from reggen.errors import DatasetLocked, StorageError
from reggen.kohya.caches import cache_name
from reggen.training.subsets import Subset


def apply_fixes(examination: DoctorReport) -> Iterator[str]:
    """Mend what can be, one file after another, and tell each in words.

    Caches and half-written files go; empty captions go where class tokens then apply; a byte order mark is
    taken off; images that would end or spoil the training move with their captions to
    ``.reggen/FOLDER/rejected/`` beside their folder. Raises DatasetLocked while a run fills one of the folders, and
    StorageError.
    """
    subsets = {report.subset.folder: report.subset for report in examination.folders}
    for folder in subsets:
        if holder := lock_holder(folder.parent / ".reggen" / folder.name):
            raise DatasetLocked(str(folder), holder)
    for finding in examination.findings:
        way = _WAYS.get(finding.kind)
        for file in finding.files if way else ():
            subset = subsets.get(file.parent)
            if way and subset and file.exists() and (done := way(file, subset)):
                yield done


def _gone(file: Path, _: Subset) -> str:
    with storage_errors("removing", file):
        file.unlink(missing_ok=True)
    return f"removed {file}"


def _empty_caption(file: Path, subset: Subset) -> str:
    if not subset.caption_rules.class_tokens:
        return ""  # without it the image would be trained with an empty caption: a person decides
    return f"{_gone(file, subset)}: the class tokens {subset.caption_rules.class_tokens!r} apply"


def _unmarked(file: Path, _: Subset) -> str:
    new = file.with_name(f".{file.name}.part")
    with storage_errors("rewriting", file):
        new.write_bytes(file.read_bytes().removeprefix(codecs.BOM_UTF8))
        new.replace(file)
    return f"took the byte order mark off {file}"


def _aside(file: Path, subset: Subset) -> str:
    rejected = file.parent.parent / ".reggen" / file.parent.name / "rejected"
    caches = [found for found in _like(file, "*.npz") if _stem(found) == file.stem]
    caption = file.with_name(file.stem + subset.caption_rules.ending)
    with storage_errors("setting aside", file):
        rejected.mkdir(parents=True, exist_ok=True)
        for found in caches:
            found.unlink()
        target = _free(rejected, file)
        if subset.caption_rules.ending and caption.is_file():
            caption.replace(target.with_name(target.stem + subset.caption_rules.ending))
        file.replace(target)
    return f"moved {file} to {target}"


def _like(file: Path, ending: str) -> list[Path]:
    return list(file.parent.glob(glob.escape(file.stem) + ending))


def _stem(found: Path) -> str:
    named = cache_name(found.name)
    return named.stems[0] if named else ""


def _free(folder: Path, file: Path) -> Path:
    for copy in range(1_000_000):
        target = folder / f"{file.stem}.{copy}{file.suffix}"
        if not target.exists():
            return target
    raise StorageError(str(file), "setting aside", "there are too many of its name")


_WAYS: dict[str, Callable[[Path, Subset], str]] = {
    "image-empty": _aside,
    "image-truncated": _aside,
    "image-black": _aside,
    "image-changed": _aside,
    "caption-empty": _empty_caption,
    "caption-bom": _unmarked,
    "cache-stale": _gone,
    "cache-orphan": _gone,
    "parts": _gone,
}
