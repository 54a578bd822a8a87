"""A disk that is really full: a small filesystem, where this machine allows to mount one."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reggen import progress
from reggen.backoff import Backoff
from reggen.errors import StorageError
from reggen.sim import Settings, serve
from tests.conftest import RUN_TIMINGS, JobMaker, Told, eventually, filled
from tests.invariants import assert_sound


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 24 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)]
    if os.name == "nt" or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let us mount a small filesystem")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill_up(place: Path) -> Path:
    """Fill the filesystem to the last byte."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65536))
        except OSError:
            pass
    return ballast


async def test_a_run_waits_for_room_on_a_full_disk(job: JobMaker, small_disk: Path) -> None:
    """It pauses, says so once, costs no sample an attempt, and goes on by itself when there is room."""
    timings = replace(RUN_TIMINGS, room=Backoff(0.2, 1.0))
    async with serve(Settings(seconds=0.05)) as sim:
        one = job(sim.url, dataset={"root": str(small_disk / "reg"), "count": 15})
        told = Told()
        running = asyncio.create_task(filled(one, limit=60, told=told, timings=timings))
        await eventually(lambda: len(list(one.dataset.folder.glob("*.png"))) >= 3)
        ballast = fill_up(small_disk)
        await eventually(lambda: any(isinstance(event, progress.RunPaused) for event in told.events))
        ballast.unlink()
        await running
    assert told.summary.exit_code == 0
    assert told.summary.given_up == ()
    paused = [event.why for event in told.events if isinstance(event, progress.RunPaused)]
    assert paused[-1] == ""
    assert_sound(one)


async def test_a_job_that_cannot_fit_does_not_begin(job: JobMaker, small_disk: Path) -> None:
    """The free space is read before the first prompt."""
    async with serve(Settings(seconds=0.02)) as sim:
        big = {"width": 2048, "height": 2048}
        one = job(sim.url, dataset={"root": str(small_disk / "reg"), "count": 1000}, sampling=big)
        with pytest.raises(StorageError, match="are free"):
            await filled(one)
        assert sim.count("POST", "/prompt") == 0


@pytest.fixture
def read_only_disk(small_disk: Path) -> Path:
    """A filesystem that is mounted read-only."""
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    return small_disk


async def test_a_read_only_folder_is_an_error_before_anything_is_submitted(job: JobMaker, read_only_disk: Path) -> None:
    """A StorageError, which exits with 5."""
    async with serve(Settings(seconds=0.02)) as sim:
        with pytest.raises(StorageError, match="the disk is read-only"):
            await filled(job(sim.url, dataset={"root": str(read_only_disk / "reg")}))
        assert sim.count("POST", "/prompt") == 0


async def test_a_folder_that_becomes_read_only_ends_the_run_and_loses_nothing(
    job: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some filesystems do that at their first error: exit 5, and the same command goes on later."""
    begin, left = os.fsync, iter(range(8))

    def until_then(handle: int) -> None:
        if next(left, None) is None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        begin(handle)

    async with serve(Settings(seconds=0.05)) as sim:
        one = job(sim.url, dataset={"count": 15})
        with monkeypatch.context() as broken:
            broken.setattr("reggen.dataset.folder.os.fsync", until_then)
            told = await filled(one)
        assert told.summary.exit_code == 5
        assert "read-only" in str(told.summary.error)
        assert told.summary.given_up == ()
        assert told.summary.made == 4
        assert sim.world.remaining == 0
        again = await filled(one)
        assert again.summary.exit_code == 0
        assert_sound(one)
