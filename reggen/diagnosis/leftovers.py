"""What lies in class folders and beside them that the trainer reads by mistake, or passes over. Blocking."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from reggen.diagnosis.survey import FileEntry, Listing
from reggen.geometry import Size
from reggen.kohya.caches import CacheName, cache_name
from reggen.kohya.captions import CaptionRules
from reggen.kohya.folders import folder_name
from reggen.training.subsets import Subset, image_names

_SLACK = 2.0  # seconds: some filesystems keep time no finer
_CAPTIONS = (".txt", ".caption")
_DATED = 1000  # nobody means so many repeats: 2024_old, 20240501_set
_LEFT = re.compile(
    r"(rejects?|rejected|old|backup|bak|trash|tmp|temp|unused|cop(y|ies)|deleted?|discard(s|ed)?|archived?|\d+)"
)


class StrayFile(NamedTuple):
    """One leftover: the kind of finding, the file or folder, what is particular to it."""

    kind: str
    path: Path
    details: str = ""


def within(listing: Listing, subset: Subset, sizes: Mapping[str, Size], lent: frozenset[Path]) -> Iterator[StrayFile]:
    """The leftovers in one class folder.

    ``sizes`` are its images' by stem; ``lent`` are caption files that images of other names are read with.
    """
    folder = listing.folder
    yield from _caches(listing, subset.caption_rules, sizes)
    yield from _captions(listing, subset.caption_rules, lent)
    if subset.cache_info and "metadata_cache.json" in listing.others:
        yield StrayFile("metadata-cache", folder / "metadata_cache.json")
    for kind, names in (("unlisted", listing.unlisted), ("parts", listing.parts), ("nested", listing.below)):
        yield from (StrayFile(kind, folder / name) for name in names)


def _caches(listing: Listing, reading: CaptionRules, sizes: Mapping[str, Size]) -> Iterator[StrayFile]:
    stems = listing.stems() if listing.caches else {}
    for file in listing.caches:
        named = cache_name(file.name)
        assert named is not None, "listings sort by the same ending"
        stem = next((stem for stem in named.stems if stem in stems), None)
        if stem is None:
            yield StrayFile("cache-orphan", listing.folder / file.name)
        elif why := _stale(file, named, stems[stem], listing.others.get(stem + reading.ending), sizes.get(stem)):
            yield StrayFile("cache-stale", listing.folder / file.name, why)


def _stale(file: FileEntry, named: CacheName, image: FileEntry, caption: FileEntry | None, size: Size | None) -> str:
    made_of = caption if named.of_text else image
    if made_of and made_of.changed > file.changed + _SLACK:
        return f"{made_of.name} is newer"
    if named.size and size and named.size != size:
        return f"{image.name} is {size[0]}x{size[1]}"
    return ""


def _captions(listing: Listing, reading: CaptionRules, lent: frozenset[Path]) -> Iterator[StrayFile]:
    stems = listing.stems() if listing.others or listing.folders else {}
    for name in listing.folders:
        if any(name.endswith(one) and name.removesuffix(one) in stems for one in (reading.ending, *_CAPTIONS) if one):
            yield StrayFile("caption-folder", listing.folder / name)
    for name in sorted(listing.others):
        path = listing.folder / name
        if reading.ending and name.endswith(reading.ending):
            if name.removesuffix(reading.ending) not in stems and path not in lent:
                yield StrayFile("caption-orphan", path)
        elif path.suffix in _CAPTIONS and path.stem in stems and path.stem + reading.ending not in listing.others:
            yield StrayFile("caption-unread", path, f"it reads {reading.ending}")


def beside(root: Path, read: Mapping[str, bool], expected: frozenset[str] | None) -> Iterator[StrayFile]:
    """The leftovers in a ``--reg_data_dir`` itself.

    ``read`` are the names of the class folders in it and whether they hold images. ``expected`` are those that
    a job makes, where one is known: others are strays then, unless reggen keeps a ledger for them.
    """
    for name in image_names(root):
        yield StrayFile("loose", root / name)
    classes = {tuple(_parts(name)) for name, holds in read.items() if holds}
    for folder in sorted(_folders(root)):
        if folder.name in read:
            if not read[folder.name]:
                yield StrayFile("folder-empty", folder)
            elif why := _stray(folder, expected, classes):
                yield StrayFile("folder-stray", folder, why)
        elif image_names(folder):
            yield StrayFile("folder-skipped", folder)


def _folders(root: Path) -> Iterator[Path]:
    try:
        yield from (entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return


def _parts(name: str) -> list[str]:
    """The single words of a class folder's name."""
    _, words = folder_name(name) or (0, "")
    return [part for part in re.split(r"[\W_]+", words.lower()) if part]


def _stray(folder: Path, expected: frozenset[str] | None, classes: Collection[tuple[str, ...]]) -> str:
    """Why a folder is a leftover: by its name, as a copy of another by its name, or as none that the job makes."""
    if expected is not None and folder.name in expected:
        return ""
    repeats, words = folder_name(folder.name) or (0, "")
    parts = _parts(folder.name)
    left = next((n for n, part in enumerate(reversed(parts)) if not _LEFT.fullmatch(part)), len(parts))
    copied = left and tuple(parts[:-left]) in classes
    if repeats >= _DATED or (parts and left == len(parts)) or copied:
        return f"kohya takes it for the class {words!r} with repeats of {repeats}"
    made = (folder.parent / ".reggen" / folder.name / "ledger.sqlite").is_file()
    return "the job does not make it" if expected is not None and not made else ""
