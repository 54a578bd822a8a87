"""The image files of a dataset by slot: names such as reg_017.png, whatever the width of the number. Blocking.

A folder may hold a million files. They are read as a stream; no list of them is kept.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from reggen.dataset.folder import Folder
from reggen.dataset.storage import storage_errors

_NAMES = 1 << 14  # file names matched at a time
_DIGITS = 14  # no dataset needs more
_IMAGES = {"png", "jpg", "jpeg", "webp", "bmp"}


class SlotFiles:
    """The files in the image folder. Slots are counted from 0: reg_001.png is that of slot 0."""

    def __init__(self, folder: Folder) -> None:
        self._folder, self._prefix, self._ending = folder, folder.prefix, folder.ending

    def find(self, index: int) -> Path | None:
        """The image of one slot, or None. No scan of the folder."""
        names = (f"{self._prefix}_{index + 1:0{width}d}" for width in range(1, _DIGITS))
        return next((path for path in map(self._folder.file, names) if path.exists()), None)

    def present(self, dense: int) -> tuple[bytearray, set[int]]:
        """The slots that have a file, empty or not, by names alone. Raises StorageError.

        A byte for each of the first ``dense`` slots, 1 where there is a file, and the set of the others. Names are
        matched thousands at a time, and a million marks take a fortieth of the memory of as many numbers.
        """
        marks, others = bytearray(dense), set[int]()
        for number in self._numbers():
            if 0 < number <= dense:
                marks[number - 1] = 1
            else:
                others.add(number - 1)
        return marks, others

    def sizes(self) -> Iterator[tuple[int, int]]:
        """Slot and size in bytes of each file. Slow for very many, on a disk that was not read lately."""
        for index, entry in self._numbered():
            try:
                size = entry.stat().st_size
            except OSError:  # deleted since, or a broken link
                size = 0
            yield index, size

    def count_beyond(self, count: int) -> int:
        """The number of images in slots from ``count`` on: the trainer reads them all the same."""
        return sum(index >= count for index, _ in self._numbered())

    def paths(self, indices: Collection[int]) -> dict[int, Path]:
        """The files of these slots. Raises StorageError."""
        if not indices:
            return {}
        return {index: Path(entry.path) for index, entry in self._numbered() if index in indices}

    def foreign_images(self) -> list[str]:
        """Names of image files that belong to no slot: a trainer may count them as images. Raises StorageError."""
        own = re.compile(rf"{re.escape(self._prefix)}_(\d+)\.{self._ending}")
        images = self._folder.images
        with storage_errors("reading", images), os.scandir(images) as entries:
            names = [entry.name for entry in entries if entry.name.rpartition(".")[2].lower() in _IMAGES]
            return sorted(name for name in names if not own.fullmatch(name))

    def _numbers(self) -> Iterator[int]:
        """The numbers in the files' names, a million of them in under a second."""
        find = re.compile(rf"/{re.escape(self._prefix)}_([0-9]+)\.{self._ending}(?=/)").findall
        with storage_errors("reading", self._folder.images), os.scandir(self._folder.images) as entries:
            names = (entry.name for entry in entries)
            while text := "/".join(itertools.islice(names, _NAMES)):
                yield from map(int, find(f"/{text}/"))  # no name contains a slash

    def _numbered(self) -> Iterator[tuple[int, os.DirEntry[str]]]:
        head, tail = f"{self._prefix}_", f".{self._ending}"
        start, stop = len(head), -len(tail)
        with storage_errors("reading", self._folder.images), os.scandir(self._folder.images) as entries:
            for entry in entries:  # up to a million: string methods are faster than an expression
                name = entry.name
                digits = name[start:stop]
                if digits.isascii() and digits.isdecimal() and name.startswith(head) and name.endswith(tail):
                    yield int(digits) - 1, entry
