"""The dataset's writer: an image is in the dataset when its file and its row are on the disk, and never half."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from reggen.dataset.folder import Folder
from reggen.dataset.ledger import Ledger
from reggen.dataset.part import Part
from reggen.dataset.rows import Row
from reggen.engine.threads import Threads
from reggen.engine.writer import AcceptedImage, DatasetWriter
from reggen.errors import StorageError
from reggen.images.check import Inspection
from tests.conftest import JobMaker, eventually
from tests.preparing import plan_of


@pytest.fixture
def folder(job: JobMaker) -> Folder:
    made = Folder(job().dataset)
    made.prepare()
    return made


def accepted(job: JobMaker, folder: Folder, index: int) -> AcceptedImage:
    """A picture on its way to a slot."""
    sample = plan_of(job())[index]
    part = folder.parts / f"{sample.name}.part"
    part.write_bytes(f"picture {index}".encode())
    row = Row(index, "done", 0, sample.name, "2026", bytes=9)
    return AcceptedImage(sample, Part(part, 9, "00"), Inspection(64, 64, {}), lambda: row)


def refuse(*_: object) -> None:
    """The disk of the ledger has just become full."""
    raise StorageError("ledger.sqlite", "writing the ledger", "the disk is full", full=True)


async def test_an_image_whose_row_cannot_be_written_is_not_there(
    job: JobMaker, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its row it is not done: it is removed, reported to whoever waits, and made again later."""
    thread = Threads(1, "test", folder.images)
    with Ledger.open(folder.state) as ledger:
        monkeypatch.setattr(ledger.slots, "put", refuse)
        writer = DatasetWriter(folder, ledger, ".txt", thread)
        waiting = [writer.keep(accepted(job, folder, index)) for index in range(3)]
        for future in waiting:
            with pytest.raises(StorageError, match="the disk is full"):
                await future
        await writer.close()
        await thread.close()
    assert list(folder.images.iterdir()) == []
    assert list(folder.parts.iterdir()) == []


async def test_what_one_image_cannot_do_the_others_can(
    job: JobMaker, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those that are written together each has an end of its own."""
    sync = Folder.sync

    def refused(self: Folder, part: Part) -> None:
        if "reg_002" in part.path.name:
            raise StorageError(str(part.path), "saving", "a bad sector")
        sync(self, part)

    monkeypatch.setattr(Folder, "sync", refused)
    thread = Threads(1, "test", folder.images)
    with Ledger.open(folder.state) as ledger:
        writer = DatasetWriter(folder, ledger, ".txt", thread)
        ends = await asyncio.gather(
            *(writer.keep(accepted(job, folder, index)) for index in range(3)), return_exceptions=True
        )
        assert [type(end) for end in ends] == [type(None), StorageError, type(None)]
        assert ledger.slots.done(0, 3) == {0, 2}
        await writer.close()
        await thread.close()
    assert sorted(file.name for file in folder.images.iterdir()) == ["reg_001.png", "reg_003.png"]


async def test_closing_waits_for_what_is_being_written(
    job: JobMaker, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was accepted is kept, however the run ends."""
    begun, gate = threading.Event(), threading.Event()
    place = Folder.place

    def slowly(self: Folder, part: Part, name: str) -> Path:
        begun.set()
        gate.wait(10)
        return place(self, part, name)

    monkeypatch.setattr(Folder, "place", slowly)
    thread = Threads(1, "test", folder.images)
    with Ledger.open(folder.state) as ledger:
        writer = DatasetWriter(folder, ledger, ".txt", thread)
        kept = writer.keep(accepted(job, folder, 0))
        await eventually(begun.is_set)
        late = writer.keep(accepted(job, folder, 1))
        closing = asyncio.create_task(writer.close())
        await asyncio.sleep(0)
        gate.set()
        await closing
        assert (kept.done(), late.done()) == (True, True)
        assert ledger.slots.done(0, 3) == {0, 1}
        await thread.close()
