"""Files and folders that the trainer reads by mistake, or passes over. Blocking."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from reggen.dataset.ledger import ledger_file
from reggen.diagnosis.findings import Observation
from reggen.diagnosis.listing import FolderListing
from reggen.geometry import Size, size_text
from reggen.job.dataset import state_folder
from reggen.kohya.caches import cache_name
from reggen.kohya.captions import CaptionRules
from reggen.kohya.folders import folder_name
from reggen.training.subsets import Subset, image_names

_SLACK = 2.0  # seconds: some filesystems keep time no finer
_CAPTION_ENDINGS = (".txt", ".caption")
_DATED = 1000  # repeats from which a number is taken for a date: 2024_old, 20240501_set
_LEFTOVER_WORDS = re.compile(
    r"(rejects?|rejected|old|backup|bak|trash|tmp|temp|unused|cop(y|ies)|deleted?|discard(s|ed)?|archived?|\d+)"
)


# ---- in a class folder


def folder_leftovers(
    listing: FolderListing, subset: Subset, sizes: Mapping[str, Size], borrowed: Collection[Path]
) -> Iterator[Observation]:
    """The leftovers in one class folder.

    ``sizes`` are its images' by stem; ``borrowed`` are caption files that images of other names are read with.
    """
    yield from _caches(listing, subset.caption_rules, sizes)
    yield from _captions(listing, subset.caption_rules, borrowed)
    if subset.cache_info and "metadata_cache.json" in listing.others:
        yield Observation("metadata-cache", listing.folder / "metadata_cache.json")
    for kind, names in (("unlisted", listing.unlisted), ("parts", listing.parts), ("nested", listing.nested)):
        yield from (Observation(kind, listing.folder / name) for name in names)


def _caches(listing: FolderListing, rules: CaptionRules, sizes: Mapping[str, Size]) -> Iterator[Observation]:
    stems = listing.stems() if listing.caches else {}
    for file in listing.caches:
        cache = cache_name(file.name)
        assert cache is not None, "listings sort by the same ending"
        stem = next((stem for stem in cache.stems if stem in stems), None)
        if stem is None:
            yield Observation("cache-orphan", listing.folder / file.name)
            continue
        image, size = stems[stem], sizes.get(stem)
        source = listing.others.get(stem + rules.ending) if cache.of_text else image
        if source and source.changed > file.changed + _SLACK:
            yield Observation("cache-stale", listing.folder / file.name, f"{source.name} is newer")
        elif cache.size and size and cache.size != size:
            yield Observation("cache-stale", listing.folder / file.name, f"{image.name} is {size_text(size)}")


def _captions(listing: FolderListing, rules: CaptionRules, borrowed: Collection[Path]) -> Iterator[Observation]:
    stems = listing.stems() if listing.others or listing.folders else {}
    endings = tuple(ending for ending in (rules.ending, *_CAPTION_ENDINGS) if ending)
    for name in listing.folders:
        if any(name.endswith(ending) and name.removesuffix(ending) in stems for ending in endings):
            yield Observation("caption-folder", listing.folder / name)
    for name in sorted(listing.others):
        path = listing.folder / name
        if rules.ending and name.endswith(rules.ending):
            if name.removesuffix(rules.ending) not in stems and path not in borrowed:
                yield Observation("caption-orphan", path)
        elif path.suffix in _CAPTION_ENDINGS and path.stem in stems and path.stem + rules.ending not in listing.others:
            yield Observation("caption-unread", path, f"it reads {rules.ending}")


# ---- in the data dir itself


def data_dir_leftovers(
    data_dir: Path, read: Mapping[str, bool], expected: Collection[str] | None
) -> Iterator[Observation]:
    """The leftovers in a ``--reg_data_dir`` itself.

    ``read`` are the names of the class folders in it, and True for those that hold images. ``expected`` are those that
    a job makes, where one is known: others are strays then, unless reggen keeps a ledger for them.
    """
    for name in image_names(data_dir):
        yield Observation("loose", data_dir / name)
    classes = {tuple(_class_words(name)) for name, has_images in read.items() if has_images}
    for folder in sorted(_folders(data_dir)):
        if folder.name not in read:
            if image_names(folder):
                yield Observation("folder-skipped", folder)
        elif not read[folder.name]:
            yield Observation("folder-empty", folder)
        elif reason := _stray_reason(folder, expected, classes):
            yield Observation("folder-stray", folder, reason)


def _folders(data_dir: Path) -> Iterator[Path]:
    try:
        yield from (entry for entry in data_dir.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return


def _class_words(name: str) -> list[str]:
    """The single words of a class folder's class tokens, in lower case."""
    _, class_tokens = folder_name(name) or (0, "")
    return [word for word in re.split(r"[\W_]+", class_tokens.lower()) if word]


def _stray_reason(folder: Path, expected: Collection[str] | None, classes: Collection[tuple[str, ...]]) -> str:
    """The reason why a folder is a leftover: its name, which may be a copy's, or that the job does not make it."""
    if expected is not None and folder.name in expected:
        return ""
    if _is_leftover_name(folder.name, classes):
        repeats, class_tokens = folder_name(folder.name) or (0, "")
        return f"kohya takes it for the class {class_tokens!r} with repeats of {repeats}"
    has_ledger = ledger_file(state_folder(folder)).is_file()
    return "the job does not make it" if expected is not None and not has_ledger else ""


def _is_leftover_name(name: str, classes: Collection[tuple[str, ...]]) -> bool:
    """True for a date, for nothing but leftover words, and for another class followed by them."""
    repeats, _ = folder_name(name) or (0, "")
    words = _class_words(name)
    trailing = next((n for n, word in enumerate(reversed(words)) if not _LEFTOVER_WORDS.fullmatch(word)), len(words))
    if repeats >= _DATED or (words and trailing == len(words)):
        return True
    return trailing > 0 and tuple(words[:-trailing]) in classes
