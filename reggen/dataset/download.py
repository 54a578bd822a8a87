"""Downloads streamed to part files through aiofiles."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import aiofiles
from aiofiles.threadpool.binary import AsyncBufferedIOBase

from reggen.dataset.part import Part
from reggen.dataset.storage import storage_error
from reggen.errors import BadImage

_PIECE = 1 << 20  # bytes of a download that are written at a time
Accepted = TypeVar("Accepted")
Answer = TypeVar("Answer")


class Downloads:
    """Saves downloads as part files in ``parts``, each of at most ``most`` bytes.

    Files are written in the threads of ``disk``, so that no write waits for other images to be decoded; that and all
    other checks happen in those of ``checks``. A download that ends early waits ``limit`` seconds at most for its file
    to be deleted.
    """

    def __init__(self, parts: Path, most: int, disk: Executor, checks: Executor, *, limit: float = 10.0) -> None:
        self.disk = disk
        self._parts, self._most, self._checks, self._limit = parts, most, checks, limit
        self._trials = itertools.count()

    async def save(self, name: str, chunks: AsyncIterable[bytes], accept: Callable[[Part], Accepted]) -> Accepted:
        """Stream a download to a part file, and return what ``accept`` returns for it.

        The file is hashed and accepted in one call in a thread. Raises BadImage for more than ``most`` bytes,
        StorageError for the disk, and whatever the chunks or ``accept`` raise; the file is closed and deleted then.
        """
        path = self._parts / f"{name}.{next(self._trials)}.part"  # an abandoned one may still be open
        file = _PartFile(path, self.disk)
        try:
            await self._receive(name, chunks, file)
            await file.close()
            return await asyncio.get_running_loop().run_in_executor(self._checks, _accepted, path, accept)
        except BaseException:  # cancelled as well: no part file and no descriptor is left
            await asyncio.wait([asyncio.ensure_future(file.discard())], timeout=self._limit)
            raise

    async def _receive(self, name: str, chunks: AsyncIterable[bytes], file: _PartFile) -> None:
        """Write the chunks, gathered into large pieces, each of them a new object: a write may outlive its await."""
        piece, size = bytearray(), 0
        async for chunk in chunks:
            size += len(chunk)
            if size > self._most:
                raise BadImage(name, f"is larger than limits.megabytes allows ({self._most >> 20} MiB)", torn=True)
            piece += chunk
            if len(piece) >= _PIECE:
                await file.write(piece)
                piece = bytearray()
        if piece:
            await file.write(piece)


class _PartFile:
    """A part file being written. It is opened with its first piece: a slow download keeps no file open."""

    def __init__(self, path: Path, threads: Executor) -> None:
        self._path, self._threads = path, threads
        self._opening: asyncio.Future[AsyncBufferedIOBase] | None = None

    async def write(self, piece: bytearray) -> None:
        """Append a piece, which must not change any more. Raises StorageError."""
        async with self._storage_errors():
            file = await self._opened()
            await file.write(piece)

    async def close(self) -> None:
        """Close the file, which is empty if nothing was written. Raises StorageError."""
        async with self._storage_errors():
            file = await self._opened()
            await file.close()

    async def discard(self) -> None:
        """Close and delete the file, whatever was going on. Errors of the disk do not matter any more."""
        if self._opening is None:
            return
        with suppress(OSError, RuntimeError):  # RuntimeError: the disk hung for so long that the threads were closed
            file = await self._opening
            if not file.closed:
                await file.close()
        with suppress(OSError, RuntimeError):
            await self._do(partial(self._path.unlink, missing_ok=True))

    async def _opened(self) -> AsyncBufferedIOBase:
        """Open the file once. A cancellation does not reach the opening: `discard` has to know the file."""
        if self._opening is None:
            self._opening = asyncio.ensure_future(aiofiles.open(self._path, "wb", executor=self._threads))
        return await asyncio.shield(self._opening)

    @asynccontextmanager
    async def _storage_errors(self) -> AsyncIterator[None]:
        try:
            yield
        except OSError as error:
            raise await self._do(partial(storage_error, error, "writing", self._path)) from error

    def _do(self, work: Callable[[], Answer]) -> Awaitable[Answer]:
        return asyncio.get_running_loop().run_in_executor(self._threads, work)


def _accepted(path: Path, accept: Callable[[Part], Accepted]) -> Accepted:
    return accept(Part.of(path))
