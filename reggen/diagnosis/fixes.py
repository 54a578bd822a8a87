"""``--fix``: the findings that can be fixed without a loss. Nothing that somebody made is deleted. Blocking."""

from __future__ import annotations

import codecs
import glob
from collections.abc import Callable, Iterator
from pathlib import Path

from reggen.dataset.lock import lock_holder
from reggen.dataset.storage import storage_errors
from reggen.diagnosis.model import DoctorReport
from reggen.errors import DatasetLocked
from reggen.files import free_name, write_whole
from reggen.job.dataset import state_folder
from reggen.kohya.caches import cache_name
from reggen.training.subsets import Subset


def apply_fixes(report: DoctorReport) -> Iterator[str]:
    """Fix one file after another, and yield a sentence about each.

    Caches and half-written files are deleted; empty captions too, where class tokens then apply; byte order marks are
    removed; images that would stop or spoil the training move with their captions to ``.reggen/FOLDER/rejected/``
    beside their folder. Raises DatasetLocked while a run fills one of the folders, and StorageError.
    """
    subsets = {folder.subset.folder: folder.subset for folder in report.folders}
    for folder in subsets:
        if holder := lock_holder(state_folder(folder)):
            raise DatasetLocked(str(folder), holder)
    for finding in report.findings:
        fix = _FIXES.get(finding.kind, _leave)
        for file in finding.files:
            subset = subsets.get(file.parent)
            if subset and file.exists() and (done := fix(file, subset)):
                yield done


def _leave(_file: Path, _subset: Subset) -> str:
    return ""


def _delete(file: Path, _subset: Subset) -> str:
    with storage_errors("removing", file):
        file.unlink(missing_ok=True)
    return f"removed {file}"


def _delete_empty_caption(file: Path, subset: Subset) -> str:
    if not subset.caption_rules.class_tokens:
        return ""  # without it the image would be trained with an empty caption: a person decides
    return f"{_delete(file, subset)}: the class tokens {subset.caption_rules.class_tokens!r} apply"


def _remove_mark(file: Path, _subset: Subset) -> str:
    with storage_errors("rewriting", file):
        write_whole(file, file.read_bytes().removeprefix(codecs.BOM_UTF8))
    return f"removed the byte order mark from {file}"


def _set_aside(file: Path, subset: Subset) -> str:
    """Move an image with its caption; its caches go, because the next image of its name would be trained by them."""
    rejected, ending = state_folder(file.parent) / "rejected", subset.caption_rules.ending
    caption = file.with_name(file.stem + ending)
    with storage_errors("setting aside", file):
        rejected.mkdir(parents=True, exist_ok=True)
        for cache in _caches_of(file):
            cache.unlink()
        target = free_name(rejected, file.name)
        if ending and caption.is_file():
            caption.replace(target.with_name(target.stem + ending))
        file.replace(target)
    return f"moved {file} to {target}"


def _caches_of(image: Path) -> list[Path]:
    found = [(file, cache_name(file.name)) for file in image.parent.glob(f"{glob.escape(image.stem)}*.npz")]
    return [file for file, cache in found if cache and cache.stems[0] == image.stem]


_FIXES: dict[str, Callable[[Path, Subset], str]] = {
    "image-empty": _set_aside,
    "image-truncated": _set_aside,
    "image-black": _set_aside,
    "image-changed": _set_aside,
    "caption-empty": _delete_empty_caption,
    "caption-bom": _remove_mark,
    "cache-stale": _delete,
    "cache-orphan": _delete,
    "parts": _delete,
}
