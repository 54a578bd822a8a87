"""The gate against pictures that the set has already, or the training set. Blocking.

A hash only raises a suspicion (`likeness`); a picture is turned away when a closer look at both files confirms it
(`compare`). What is gone from the disk meanwhile accuses nobody.
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
_AHEAD = 256  # training images that are being hashed at a time


class Duplicates:
    """What the dataset and its training set have. One thread at a time; `stop` is for any.

    ``bits`` is how much the hashes of two suspects may differ. Read in when it is first needed, or by `load`.
    """

    def __init__(
        self,
        folder: Folder,
        ledger: Path,
        bits: int,
        training: Sequence[Path] = (),
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """``stopped`` ends a `load` that goes on, as `stop` does."""
        self._files, self._ledger, self._training = SlotFiles(folder), ledger, tuple(training)
        self._bits, self._stop, self._stopped = bits, threading.Event(), stopped
        self._known: tuple[PhashIndex, PhashIndex] | None = None  # the dataset's own, and the training set's

    def load(self) -> tuple[PhashIndex, PhashIndex]:
        """Read the newest hashes from the ledger, and hash the training images; once. Raises StorageError."""
        if self._known:
            return self._known
        ours, theirs = PhashIndex(self._bits), PhashIndex(self._bits, len(self._training))
        if reader := Ledger.read(self._ledger):
            try:
                for index, own in reversed(list(reader.phashes(CAPACITY))):
                    ours.add(index, own)
            finally:
                reader.close()
        for number, found in training_phashes(self._training, lambda: self._stop.is_set() or self._stopped()):
            theirs.add(number, found)
        self._known = ours, theirs
        return self._known

    def stop(self) -> None:
        """End a `load` that goes on: the run ends, and nothing will be asked any more."""
        self._stop.set()

    def demand_new(self, name: str, index: int, path: Path, phashes: Sequence[int]) -> None:
        """Raises DuplicateImage when the picture at ``path``, meant for a slot, is there already."""
        if not phashes:
            return
        ours, theirs = self.load()
        trained = [self._training[number] for number in theirs.find(phashes)]
        made = [there for other in ours.find(phashes) if other != index and (there := self._files.find(other))]
        if found := first_match(path, [*trained, *made]):
            known, verdict = found
            named = known.stem if known in made else f"the training image {'/'.join(known.parts[-3:])}"
            raise DuplicateImage(name, f"{verdict} {named}")

    def add(self, index: int, own: int | None) -> None:
        """From now on this slot's picture counts."""
        if own is not None:
            self.load()[0].add(index, own)


def training_phashes(paths: Sequence[Path], stopped: Callable[[], bool]) -> Iterator[tuple[int, int]]:
    """Number and hash of the images that can be read and show enough to be compared, hashed on all cores."""
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1), thread_name_prefix="reggen-training") as pool:
        for start in range(0, len(paths), _AHEAD):
            if stopped():
                return
            for number, own in enumerate(pool.map(file_phash, paths[start : start + _AHEAD]), start):
                if own is not None:
                    yield number, own
