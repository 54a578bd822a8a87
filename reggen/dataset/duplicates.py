"""The check that no picture is in the set twice, or in the training set. Blocking.

A hash nominates candidates (`phash_index`); a pixel comparison of both files decides (`compare`). A candidate whose
file was deleted meanwhile is skipped.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from reggen.dataset.folder import Folder
from reggen.dataset.ledger import Ledger
from reggen.dataset.slot_files import SlotFiles
from reggen.errors import DuplicateImage
from reggen.images.compare import first_match
from reggen.images.phash import file_phash
from reggen.images.phash_index import CAPACITY, PhashIndex

_THREADS = 4
_CHUNK = 256  # training images hashed between two looks at ``stopped``


class Duplicates:
    """The pictures of a dataset and its training set. One thread at a time; `stop` is for any.

    ``bits`` is how many bits the hashes of two candidates may differ in. The hashes are read when they are first
    needed, or by `load`.
    """

    def __init__(
        self,
        folder: Folder,
        bits: int,
        training: Sequence[Path] = (),
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """``stopped`` ends a `load` that is going on, as `stop` does."""
        self._state, self._files, self._training = folder.state, SlotFiles(folder), tuple(training)
        self._bits, self._stop, self._stopped = bits, threading.Event(), stopped
        self._indexes: tuple[PhashIndex, PhashIndex] | None = None  # the dataset's own, and the training set's

    def load(self) -> tuple[PhashIndex, PhashIndex]:
        """Read the newest hashes from the ledger and hash the training images, once. Raises StorageError."""
        if self._indexes:
            return self._indexes
        ours, theirs = PhashIndex(self._bits), PhashIndex(self._bits, len(self._training))
        if ledger := Ledger.read(self._state):
            with ledger:
                for index, phash in reversed(list(ledger.slots.phashes(CAPACITY))):
                    ours.add(index, phash)
        for number, phash in training_phashes(self._training, lambda: self._stop.is_set() or self._stopped()):
            theirs.add(number, phash)
        self._indexes = ours, theirs
        return self._indexes

    def stop(self) -> None:
        """End a `load` that is going on: nothing will be asked any more."""
        self._stop.set()

    def refuse_duplicate(self, name: str, index: int, path: Path, phashes: Sequence[int]) -> None:
        """Raise DuplicateImage when the picture at ``path``, meant for a slot, is there already; StorageError."""
        if not phashes:
            return
        ours, theirs = self.load()
        trained = [self._training[number] for number in theirs.find(phashes)]
        made = [file for other in ours.find(phashes) if other != index and (file := self._files.find(other))]
        if found := first_match(path, [*trained, *made]):
            original, verdict = found
            named = original.stem if original in made else f"the training image {'/'.join(original.parts[-3:])}"
            raise DuplicateImage(name, f"{verdict} {named}")

    def add(self, index: int, phash: int | None) -> None:
        """Compare later pictures with this slot's, too."""
        if phash is not None:
            self.load()[0].add(index, phash)


def training_phashes(paths: Sequence[Path], stopped: Callable[[], bool]) -> Iterator[tuple[int, int]]:
    """Number and hash of the images that can be read and compared, hashed on all cores."""
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1), thread_name_prefix="reggen-training") as pool:
        for start in range(0, len(paths), _CHUNK):
            if stopped():
                return
            phashes = enumerate(pool.map(file_phash, paths[start : start + _CHUNK]), start)
            yield from ((number, phash) for number, phash in phashes if phash is not None)
