"""Downloads: streamed to part files through aiofiles, and gone without a trace when they end early."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import aiofiles
import pytest

from reggen.dataset.download import Downloads
from reggen.dataset.part import Part
from reggen.errors import BadImage, StorageError

MIB = 1 << 20
Answer = TypeVar("Answer")
Arguments = ParamSpec("Arguments")


class Held(Executor):
    """A thread whose call of a given number, from 0, waits for ``release``; ``reached`` is set when it does."""

    def __init__(self, call: int = -1) -> None:
        self.call, self.calls = call, 0
        self.reached, self.release = threading.Event(), threading.Event()
        self._thread = ThreadPoolExecutor(2)

    def submit(
        self, fn: Callable[Arguments, Answer], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Future[Answer]:
        number, self.calls = self.calls, self.calls + 1

        def called() -> Answer:
            if number == self.call:
                self.reached.set()
                assert self.release.wait(10)
            return fn(*args, **kwargs)

        return self._thread.submit(called)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.release.set()
        self._thread.shutdown(wait, cancel_futures=cancel_futures)


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    folder = tmp_path / "parts"
    folder.mkdir()
    return folder


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
def downloads(parts: Path, threads: Executor) -> Downloads:
    return Downloads(parts, 8 * MIB, threads, threads)


async def bytes_of(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def bytes_then_silence(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
    await asyncio.sleep(60)


def itself(part: Part) -> Part:
    return part


def open_files(folder: Path) -> list[str]:
    """The files of a folder that this process has open, as far as the system says."""
    handles = Path("/proc/self/fd")
    names = [str(handle.readlink()) for handle in handles.iterdir() if handle.is_symlink()] if handles.is_dir() else []
    return [name for name in names if name.startswith(str(folder))]


def files_in(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def nothing_is_left(parts: Path) -> bool:
    """Neither a file nor a descriptor of one."""
    return not files_in(parts) and not open_files(parts)


async def test_a_download_is_a_part_file_with_size_and_hash(downloads: Downloads, parts: Path) -> None:
    """Those of its bytes; every download has a file of its own."""
    part = await downloads.save("reg_001", bytes_of(b"ab", b"c"), itself)
    assert (part.size, part.sha256) == (3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    again = await downloads.save("reg_001", bytes_of(b"other"), itself)
    assert files_in(parts) == {part.path.name: b"abc", again.path.name: b"other"}
    assert open_files(parts) == []


@pytest.mark.parametrize("chunks", [(), (b"",)])
async def test_an_empty_download_is_an_empty_file(downloads: Downloads, chunks: tuple[bytes, ...]) -> None:
    """Its size says so to whoever accepts it."""
    assert (await downloads.save("reg_001", bytes_of(*chunks), itself)).size == 0


async def test_a_large_download_is_written_piece_by_piece(
    parts: Path, threads: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through aiofiles, in the threads for files; it is never in memory whole."""
    opened: list[dict[str, Any]] = []
    pieces: list[int] = []
    real = aiofiles.open

    async def watched(*args: Any, **options: Any) -> Any:
        opened.append(options)
        file = await real(*args, **options)
        write = file.write

        async def counted(piece: bytes) -> int:
            pieces.append(len(piece))
            written: int = await write(piece)
            return written

        monkeypatch.setattr(file, "write", counted)
        return file

    monkeypatch.setattr(aiofiles, "open", watched)
    with ThreadPoolExecutor(1) as disk:
        chunks = [bytes([number]) * 700_000 for number in range(5)]
        part = await Downloads(parts, 8 * MIB, disk, threads).save("reg_001", bytes_of(*chunks), itself)
        assert opened == [{"executor": disk}]
    assert pieces == [1_400_000, 1_400_000, 700_000]
    assert part.path.read_bytes() == b"".join(chunks)
    assert (part.size, part.sha256) == (3_500_000, hashlib.sha256(b"".join(chunks)).hexdigest())


async def test_a_whole_file_is_hashed_and_accepted_in_one_call(parts: Path) -> None:
    """In the threads for checks, where it waits for other images once; three more calls open, write and close it."""
    disk, checks = Held(), Held()
    assert await Downloads(parts, MIB, disk, checks).save("reg_001", bytes_of(b"abc"), lambda part: part.size) == 3
    assert (disk.calls, checks.calls) == (3, 1)
    disk.shutdown()
    checks.shutdown()


async def test_a_body_without_end_is_cut_off_and_leaves_nothing(parts: Path, threads: Executor) -> None:
    """The cap holds for what arrives, whatever length was announced."""
    with pytest.raises(BadImage, match="megabytes"):
        await Downloads(parts, 3 * MIB, threads, threads).save("reg_001", bytes_of(*[bytes(MIB)] * 4), itself)
    assert nothing_is_left(parts)


@pytest.mark.parametrize("arrived", [b"a", bytes(MIB)])
async def test_a_download_that_breaks_leaves_nothing(downloads: Downloads, parts: Path, arrived: bytes) -> None:
    """And the error that broke it is raised, whether it was in memory or on the disk."""

    async def broken() -> AsyncIterator[bytes]:
        yield arrived
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await downloads.save("reg_001", broken(), itself)
    assert nothing_is_left(parts)


@pytest.mark.parametrize("size", [3, 2 * MIB])
async def test_a_file_that_is_not_accepted_is_deleted(downloads: Downloads, parts: Path, size: int) -> None:
    """Others stay."""

    def refused(part: Part) -> None:
        assert part.path.stat().st_size == size
        raise BadImage("reg_001", "is ugly")

    kept = await downloads.save("reg_001", bytes_of(b"abc"), itself)
    with pytest.raises(BadImage, match="ugly"):
        await downloads.save("reg_001", bytes_of(bytes(size - 1), b"x"), refused)
    assert files_in(parts) == {kept.path.name: b"abc"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("size", [3, 2 * MIB], ids=["when it is closed", "when it is written"])
async def test_a_full_disk_is_a_storage_error(downloads: Downloads, parts: Path, size: int) -> None:
    """It says so, and that room may come."""
    (parts / "reg_001.0.part").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="the disk is full") as caught:
        await downloads.save("reg_001", bytes_of(bytes(size)), itself)
    assert caught.value.full
    assert (files_in(parts), open_files(Path("/dev/full"))) == ({}, [])


async def test_a_folder_that_is_not_there_is_a_storage_error(parts: Path, threads: Executor) -> None:
    """With the file that could not be written; the disk is asked for the reason in a thread."""
    with pytest.raises(StorageError, match=r"writing .*reg_001\.0\.part"):
        await Downloads(parts / "gone", MIB, threads, threads).save("reg_001", bytes_of(b"abc"), itself)


@pytest.mark.parametrize("call", [0, 1, 2], ids=["opened", "written", "closed"])
async def test_a_download_that_is_cancelled_leaves_no_file_and_no_descriptor(
    parts: Path, threads: Executor, call: int
) -> None:
    """Whatever its file is just going through in its thread: that ends, and then the file is closed and deleted."""
    disk = Held(call)
    saving = asyncio.create_task(Downloads(parts, 8 * MIB, disk, threads).save("reg_001", bytes_of(b"abc"), itself))
    await asyncio.to_thread(disk.reached.wait, 10)
    saving.cancel()
    await asyncio.sleep(0.01)
    disk.release.set()
    with pytest.raises(asyncio.CancelledError):
        await saving
    assert nothing_is_left(parts)
    disk.shutdown()


@pytest.mark.parametrize("arrived", [b"a", bytes(MIB)])
async def test_a_download_that_is_cancelled_on_the_way_leaves_nothing(
    downloads: Downloads, parts: Path, arrived: bytes
) -> None:
    """The server has stopped sending, and the time for it is over."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await downloads.save("reg_001", bytes_then_silence(arrived), itself)
    assert nothing_is_left(parts)


async def test_a_download_that_is_cancelled_while_it_is_checked_leaves_nothing(parts: Path, threads: Executor) -> None:
    """The check goes on in its thread, and finds the file gone or not: nobody waits for its answer."""
    checks = Held(0)
    saving = asyncio.create_task(Downloads(parts, MIB, threads, checks).save("reg_001", bytes_of(b"abc"), itself))
    await asyncio.to_thread(checks.reached.wait, 10)
    saving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saving
    assert nothing_is_left(parts)
    checks.shutdown()


async def test_a_disk_that_hangs_holds_up_a_cancelled_download_for_a_limited_time(
    parts: Path, threads: Executor
) -> None:
    """Its file is closed and deleted when the disk answers again."""
    disk = Held(0)
    downloads = Downloads(parts, MIB, disk, threads, limit=0.05)
    saving = asyncio.create_task(downloads.save("reg_001", bytes_of(b"abc"), itself))
    await asyncio.to_thread(disk.reached.wait, 10)
    saving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(saving, 5)
    disk.release.set()
    async with asyncio.timeout(5):
        while disk.calls < 3 or not nothing_is_left(parts):
            await asyncio.sleep(0.005)
    disk.shutdown()
