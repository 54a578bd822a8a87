"""Downloads streamed to part files, with the blocking work done in threads."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from reggen.dataset.part import Part
from reggen.dataset.storage import storage_errors
from reggen.errors import BadImage

_PIECE = 1 << 20  # bytes of a download that are written at a time
Accepted = TypeVar("Accepted")


class Downloads:
    """Saves downloads as part files in ``parts``, each of at most ``most`` bytes, in ``threads``."""

    def __init__(self, parts: Path, most: int, threads: Executor | None = None) -> None:
        self._parts, self._most, self._threads = parts, most, threads
        self._trials = itertools.count()

    async def save(self, name: str, chunks: AsyncIterable[bytes], accept: Callable[[Part], Accepted]) -> Accepted:
        """Stream a download to a part file, hashing it, and call ``accept`` with that; returns its result.

        All that blocks happens in one of the threads, a large piece at a time, and ``accept`` with the last one.
        Raises BadImage for more than ``most`` bytes, StorageError for the disk, and whatever the chunks or ``accept``
        raise; the part file is deleted then.
        """
        writing = _Writing(self._parts / f"{name}.{next(self._trials)}.part")  # an abandoned one may still be open
        piece, do = bytearray(), partial(asyncio.get_running_loop().run_in_executor, self._threads)
        try:
            async for chunk in _capped(chunks, name, self._most):
                piece += chunk
                if len(piece) >= _PIECE:
                    await do(writing.write, bytes(piece))
                    piece.clear()
            return await do(writing.finish, bytes(piece), accept)
        except asyncio.CancelledError:
            do(writing.discard)  # as soon as a thread is free: a cancelled task does not wait for a disk
            raise
        except BaseException:
            await do(writing.discard)
            raise


class _Writing:
    """A part file being written, in whichever thread. `discard` may be called while another thread writes."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock, self._gone = path, threading.Lock(), False
        self._digest, self._size = hashlib.sha256(), 0
        self._file: BinaryIO | None = None

    def write(self, data: bytes) -> None:
        """Append. Blocking. Raises StorageError."""
        with self._lock, storage_errors("writing", self._path):
            if self._gone:
                return
            self._file = self._file or self._path.open("wb")
            self._file.write(data)
            self._digest.update(data)
            self._size += len(data)

    def finish(self, data: bytes, accept: Callable[[Part], Accepted]) -> Accepted:
        """Write the last piece, close the file and hand it on. Blocking. Raises StorageError, and what that raises."""
        self.write(data)
        with self._lock, storage_errors("writing", self._path):
            if self._file:
                self._file.close()
        return accept(Part(self._path, self._size, self._digest.hexdigest()))

    def discard(self) -> None:
        """Close and delete it."""
        with self._lock, suppress(OSError):
            self._gone = True
            if self._file:
                self._file.close()
            self._path.unlink(missing_ok=True)


async def _capped(chunks: AsyncIterable[bytes], name: str, most: int) -> AsyncIterator[bytes]:
    room = most
    async for chunk in chunks:
        room -= len(chunk)
        if room < 0:
            raise BadImage(name, f"is larger than limits.megabytes allows ({most >> 20} MiB)", torn=True)
        yield chunk
