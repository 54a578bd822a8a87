"""The image folder and its state folder: part files, the rename that makes an image real, what lies there.

    root/                              the trainer's --reg_data_dir
      1_anime_character/               images and nothing else
      .reggen/1_anime_character/       ledger.sqlite, run.log, report.json, lock, parts/, rejected/

No trainer reads ``.reggen``; it lies on the same filesystem, so a part file becomes an image by a rename.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import itertools
import os
import re
import shutil
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

import filelock

from reggen.errors import BadImage, StorageError
from reggen.files import opened
from reggen.images.formats import Form
from reggen.job.models import Dataset


@dataclass(frozen=True, slots=True)
class Part:
    """A downloaded file that is not yet an image of the dataset: its size in bytes and SHA-256 in hex."""

    path: Path
    size: int
    sha256: str


_NAMES = 1 << 14  # of files that are matched at a time
_PIECE = 1 << 20  # bytes of a download that are written at a time
Kept = TypeVar("Kept")


class Folder:
    """The folders of one dataset. Names come from the plan alone, never from a server's answer."""

    def __init__(self, dataset: Dataset) -> None:
        self.images, self.state = dataset.folder, dataset.state
        self.parts, self.rejected = self.state / "parts", self.state / "rejected"
        self.ending, self.form = dataset.format, Form.of(dataset)
        self._prefix = dataset.prefix
        self._number = re.compile(rf"{re.escape(dataset.prefix)}_(\d+)\.{dataset.format}")
        self._cache = re.compile(rf"({re.escape(dataset.prefix)}_\d+)(_.*)?\.npz")
        self._caches: dict[str, list[Path]] = {}
        self._trials = itertools.count()

    def file(self, name: str) -> Path:
        """Where the image of a slot lies or will lie."""
        return self.images / f"{name}.{self.ending}"

    def lying(self, index: int) -> Path | None:
        """The image of a slot, whatever the width of its number; None where there is none."""
        names = (f"{self._prefix}_{index + 1:0{width}d}" for width in range(1, _DIGITS))
        return next((path for path in map(self.file, names) if path.exists()), None)

    def prepare(self) -> None:
        """Make the folders, clear away part files of earlier runs, and see which slots have latent caches.

        Call it while holding the dataset.
        """
        with storage("preparing", self.state):
            self.images.mkdir(parents=True, exist_ok=True)
            self.tidy()
            self.parts.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(self.rejected) and not self.rejected.is_dir():  # not found out in the night
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self.rejected))
            self._caches = {}
            with os.scandir(self.images) as entries:  # once: a look for each image would cost more with each image
                for entry in entries:
                    if entry.name.endswith(".npz") and (match := self._cache.fullmatch(entry.name)):
                        self._caches.setdefault(match[1], []).append(Path(entry.path))

    def forget_report(self) -> None:
        """Remove report.json, which tells of an earlier run, when another begins."""
        with storage("preparing", self.state):
            (self.state / "report.json").unlink(missing_ok=True)

    def tidy(self) -> None:
        """Clear away what was on its way."""
        shutil.rmtree(self.parts, ignore_errors=True)

    def slots(self, dense: int) -> tuple[bytearray, set[int]]:
        """The slots in which a file lies, empty or not: a look at names alone.

        A byte for each of the first ``dense`` slots, 1 where one lies, and the others. A million names are matched
        thousands at a time, and a million marks take a fortieth of the memory that as many numbers do.
        """
        marks, others = bytearray(dense), set[int]()
        find = re.compile(rf"/{re.escape(self._prefix)}_([0-9]+)\.{self.ending}(?=/)").findall
        with storage("reading", self.images), os.scandir(self.images) as entries:
            names = (entry.name for entry in entries)
            while text := "/".join(itertools.islice(names, _NAMES)):
                for number in map(int, find(f"/{text}/")):  # no name has a slash in it
                    if 0 < number <= dense:
                        marks[number - 1] = 1
                    else:
                        others.add(number - 1)
        return marks, others

    def sizes(self) -> Iterator[tuple[int, int]]:
        """Slot and bytes of each file that lies in one; many of them take long, on a disk that was not read lately."""
        for index, entry in self._numbered():
            try:
                size = entry.stat().st_size
            except OSError:  # gone meanwhile, or a link to nowhere
                size = 0
            yield index, size

    def beyond(self, count: int) -> int:
        """How many images lie in slots beyond ``count``: the trainer reads them all the same."""
        return sum(index >= count for index, _ in self._numbered())

    def files(self, indices: Collection[int]) -> dict[int, Path]:
        """The files that lie in these slots, whatever the width of their numbers."""
        if not indices:
            return {}
        return {index: Path(entry.path) for index, entry in self._numbered() if index in indices}

    def strangers(self) -> list[str]:
        """Files in the image folder that are no slot's: another trainer may count them as images."""
        with storage("reading", self.images):
            return sorted(
                entry.name
                for entry in os.scandir(self.images)
                if not self._number.fullmatch(entry.name) and entry.name.rpartition(".")[2].lower() in _IMAGES
            )

    def _numbered(self) -> Iterator[tuple[int, os.DirEntry[str]]]:
        with storage("reading", self.images), os.scandir(self.images) as entries:
            start, stop = len(self._prefix) + 1, -len(self.ending) - 1
            head, tail = f"{self._prefix}_", f".{self.ending}"
            for entry in entries:  # a million of them: no expression is matched
                name = entry.name
                digits = name[start:stop]
                if digits.isascii() and digits.isdecimal() and name.startswith(head) and name.endswith(tail):
                    yield int(digits) - 1, entry

    def set_aside(self, path: Path) -> Path:
        """Move a file that must not stay in the dataset to ``rejected/``, under a name that is free."""
        with storage("setting aside", path):
            self.rejected.mkdir(parents=True, exist_ok=True)
            for copy in range(1_000_000):
                target = self.rejected / f"{path.stem}.{copy}{path.suffix}"
                if not target.exists():
                    path.replace(target)
                    return target
        raise StorageError(str(path), "setting aside", "there are too many of its name")

    async def receive(
        self,
        name: str,
        chunks: AsyncIterable[bytes],
        most: int,
        then: Callable[[Part], Kept],
        threads: Executor | None = None,
    ) -> Kept:
        """Stream a download to a part file, hashing on the way, and hand it to ``then``; returns what that returns.

        All that blocks happens in one of ``threads``, a large piece at a time, and ``then`` with the last one.
        ``most`` is the cap in bytes. Raises BadImage beyond it, StorageError for the disk, and whatever the chunks or
        ``then`` raise; leaves no part file then.
        """
        writing = _Writing(self.parts / f"{name}.{next(self._trials)}.part")  # one given up may still be written to
        piece, do = bytearray(), partial(asyncio.get_running_loop().run_in_executor, threads)
        try:
            async for chunk in _capped(chunks, name, most):
                piece += chunk
                if len(piece) >= _PIECE:
                    await do(writing.write, bytes(piece))
                    piece.clear()
            return await do(writing.finish, bytes(piece), then)
        except asyncio.CancelledError:
            do(writing.discard)  # as soon as the thread is free: whoever leaves does not wait for a disk
            raise
        except BaseException:  # half a file is never left
            await do(writing.discard)
            raise

    def measured(self, path: Path) -> Part:
        """A part file that was written here: its size and hash. Blocking."""
        with storage("reading", path), opened(path) as file:
            digest = hashlib.file_digest(file, "sha256")
            return Part(path, file.tell(), digest.hexdigest())

    def sync(self, part: Part) -> None:
        """Have the bytes of a part file reach the disk. Blocking; the first of three steps, see `place`."""
        with storage("saving", part.path), part.path.open("rb+") as file:
            os.fsync(file.fileno())

    def place(self, part: Part, name: str) -> Path:
        """Make a part file the image of a slot. Blocking.

        The order is what makes it safe: the bytes reach the disk (`sync`), then the name appears, then the folder
        is flushed (`flush`), for as many images together as there are. Stale latent caches of an earlier picture in
        this slot go first: kohya never compares them with their image.
        """
        target = self.file(name)
        with storage("saving", target):
            for stale in self._caches.pop(name, ()):
                stale.unlink(missing_ok=True)
            if target.exists():  # somebody put one here meanwhile; nothing is ever overwritten
                self.set_aside(target)
            part.path.replace(target)
        return target

    def flush(self) -> None:
        """Have the names in the image folder reach the disk. Blocking."""
        with storage("saving", self.images):
            flush_folder(self.images)

    def drop_caches(self, name: str) -> None:
        """Remove the latent caches of a picture that is gone. Blocking; after `prepare`."""
        with storage("removing the caches of", self.file(name)):
            for stale in self._caches.pop(name, ()):
                stale.unlink(missing_ok=True)

    def free_bytes(self) -> int:
        """What the filesystem has left."""
        path = self.images
        while not path.exists() and path.parent != path:
            path = path.parent
        with storage("asking for free space at", path):
            return shutil.disk_usage(path).free


class _Writing:
    """A part file on its way, in whichever thread. `discard` may be called while another thread writes."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock, self._gone = path, threading.Lock(), False
        self._digest, self._size = hashlib.sha256(), 0
        self._file: BinaryIO | None = None

    def write(self, data: bytes) -> None:
        """Blocking. Raises StorageError."""
        with self._lock, storage("writing", self._path):
            if self._gone:
                return
            self._file = self._file or self._path.open("wb")
            self._file.write(data)
            self._digest.update(data)
            self._size += len(data)

    def finish(self, data: bytes, then: Callable[[Part], Kept]) -> Kept:
        """Blocking: write the last piece, close the file and hand it on. Raises StorageError, and what that raises."""
        self.write(data)
        with self._lock, storage("writing", self._path):
            if self._file:
                self._file.close()
        return then(Part(self._path, self._size, self._digest.hexdigest()))

    def discard(self) -> None:
        """Nobody wants it any more."""
        with self._lock, suppress(OSError):
            self._gone = True
            if self._file:
                self._file.close()
            self._path.unlink(missing_ok=True)


async def _capped(chunks: AsyncIterable[bytes], name: str, most: int) -> AsyncIterator[bytes]:
    left = most
    async for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            raise BadImage(name, f"is larger than limits.megabytes allows ({most >> 20} MiB)", torn=True)
        yield chunk


_DIGITS = 14  # no dataset needs more
_IMAGES = {"png", "jpg", "jpeg", "webp", "bmp"}


_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_WORDS = {
    errno.ENOSPC: "the disk is full",
    errno.EROFS: "the disk is read-only",
    getattr(errno, "EDQUOT", errno.ENOSPC): "the disk is full, or the quota used up",
}


NO_FILE = "it is a folder where a file belongs"
AWAY = "move it elsewhere, then run the same command again"
"""What to do about something that lies in the place of another."""


@contextmanager
def storage(doing: str, path: Path) -> Iterator[None]:
    """Turn what the operating system says into StorageError."""
    try:
        yield
    except filelock.Timeout:  # an OSError by ancestry, and no fault of the disk
        raise
    except OSError as error:
        if found := _in_the_way(error, path):
            raise StorageError(str(found[0]), doing, found[1], remedy=AWAY) from error
        what = _WORDS.get(error.errno or 0) or error.strerror or str(error)
        raise StorageError(str(path), doing, what, error.errno in _FULL) from error


def _in_the_way(error: OSError, path: Path) -> tuple[Path, str] | None:
    """What lies where something of another kind belongs, and what it is; None where the error is of another kind."""
    told = [Path(os.fsdecode(name)) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    named = told or [path]
    if isinstance(error, FileExistsError | NotADirectoryError | FileNotFoundError):
        places = named if isinstance(error, FileExistsError) else [above for one in named for above in one.parents]
        if file := next((one for one in places if os.path.lexists(one) and not one.is_dir()), None):
            return file, "it is a file where a folder belongs"
    if isinstance(error, IsADirectoryError) or (os.name == "nt" and isinstance(error, PermissionError)):
        folder = next((one for one in named if one.is_dir() and (os.name != "nt" or one != path)), None)
        return (folder, NO_FILE) if folder else None
    return None


def flush_folder(path: Path) -> None:
    """fsync of a folder, so that a rename survives a power cut. Windows does it by itself and cannot be asked."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # some network filesystems
            raise
    finally:
        os.close(handle)
