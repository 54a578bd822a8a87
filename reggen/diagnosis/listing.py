"""A folder's files, sorted by their meaning to the trainer. Blocking."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from reggen.kohya.folders import is_image

_IMAGE_ENDINGS = frozenset({"png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff", "avif", "jxl", "heic"})


class FileEntry(NamedTuple):
    """A file of a folder: name, size in bytes, time of change in seconds."""

    name: str
    size: int
    changed: float


@dataclass(slots=True)
class FolderListing:
    """A folder's entries. ``images`` are those that kohya lists, in its order.

    ``unlisted`` look like images, but kohya does not list them (.Png, .gif); ``nested`` are sub-folders that hold
    images, ``folders`` all other sub-folders; ``parts`` are half-written files, ``caches`` end in .npz.
    """

    folder: Path
    images: list[FileEntry] = field(default_factory=list)
    caches: list[FileEntry] = field(default_factory=list)
    others: dict[str, FileEntry] = field(default_factory=dict)
    unlisted: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)

    def stems(self) -> dict[str, FileEntry]:
        """The images by their name without the ending."""
        return {os.path.splitext(image.name)[0]: image for image in self.images}  # noqa: PTH122


def list_folder(folder: Path) -> FolderListing:
    """List a folder once; a folder that cannot be listed is empty."""
    listing = FolderListing(folder)
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                _sort_in(entry, listing)
    except OSError:
        return listing
    listing.images.sort()
    for names in (listing.unlisted, listing.parts, listing.nested, listing.folders):
        names.sort()
    return listing


def _sort_in(entry: os.DirEntry[str], listing: FolderListing) -> None:
    name = entry.name
    if is_image(name):
        listing.images.append(_file_entry(entry))
    elif entry.is_dir():
        holds_images = not name.startswith(".") and any(is_image(inner) for inner in _names(entry.path))
        (listing.nested if holds_images else listing.folders).append(name)
    elif name.endswith(".part"):
        listing.parts.append(name)
    elif name.endswith(".npz"):
        listing.caches.append(_file_entry(entry))
    elif name.startswith("."):
        return
    elif name.rpartition(".")[2].lower() in _IMAGE_ENDINGS:
        listing.unlisted.append(name)
    else:
        listing.others[name] = _file_entry(entry)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - names alone, of folders that may hold very many
    except OSError:
        return []


def _file_entry(entry: os.DirEntry[str]) -> FileEntry:
    try:
        status = entry.stat()
    except OSError:  # a link to nowhere is listed by kohya too
        return FileEntry(entry.name, -1, 0.0)
    return FileEntry(entry.name, status.st_size, status.st_mtime)
