"""The folder and the ledger: what lies on the disk, and what is said of it."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from reggen.dataset.check import Demands
from reggen.dataset.folder import Folder, Part, held, is_held, storage
from reggen.dataset.ledger import Ledger, Row, now_utc
from reggen.dataset.resume import missing, reconcile
from reggen.errors import BadImage, Busy, JobError, StorageError
from reggen.job import Dataset
from reggen.plan import Plan
from reggen.sim import paint
from tests.conftest import JobMaker


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(Dataset.model_validate({"root": tmp_path / "reg", "class": "thing", "count": 9}))
    made.prepare()
    return made


async def bytes_of(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def row(idx: int, state: str = "done", take: int = 0) -> Row:
    return Row(idx, state, take, f"reg_{idx + 1:03d}", now_utc())


async def test_a_download_becomes_a_part_file_and_then_the_image(folder: Folder) -> None:
    """Size and hash are those of the bytes; nothing is in the image folder before the commit."""
    part = await folder.receive("reg_001", bytes_of(b"ab", b"c"), most=10)
    assert (part.size, part.sha256) == (3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    assert list(folder.images.iterdir()) == []
    folder.commit(part, "reg_001")
    assert (folder.images / "reg_001.png").read_bytes() == b"abc"
    assert list(folder.parts.iterdir()) == []


async def test_a_body_without_end_is_cut_off_and_leaves_nothing(folder: Folder) -> None:
    """The cap holds for what arrives, whatever length was promised."""
    with pytest.raises(BadImage, match="megabytes"):
        await folder.receive("reg_001", bytes_of(b"a" * 8, b"b" * 8), most=10)
    assert list(folder.parts.iterdir()) == []


async def test_a_download_that_breaks_leaves_nothing(folder: Folder) -> None:
    """And the error that broke it comes through."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"a"
        raise ConnectionResetError

    with pytest.raises((ConnectionResetError, StorageError)):
        await folder.receive("reg_001", broken(), most=10)
    assert list(folder.parts.iterdir()) == []


async def test_a_commit_overwrites_nothing(folder: Folder) -> None:
    """Somebody put a file there meanwhile: it is set aside, not lost."""
    (folder.images / "reg_001.png").write_bytes(b"somebody's")
    folder.commit(await folder.receive("reg_001", bytes_of(b"ours"), most=10), "reg_001")
    assert (folder.images / "reg_001.png").read_bytes() == b"ours"
    assert [file.read_bytes() for file in folder.rejected.iterdir()] == [b"somebody's"]


async def test_a_commit_removes_the_caches_of_the_slot_and_of_no_other(folder: Folder) -> None:
    """reg_001*.npz goes, reg_0010*.npz stays."""
    for name in ("reg_001.npz", "reg_001_0064x0064_sd.npz", "reg_0010.npz", "reg_002_0064x0064_sd.npz"):
        (folder.images / name).touch()
    folder.prepare()
    folder.commit(await folder.receive("reg_001", bytes_of(b"ours"), most=10), "reg_001")
    assert sorted(file.name for file in folder.images.glob("*.npz")) == ["reg_0010.npz", "reg_002_0064x0064_sd.npz"]


def test_present_counts_numbers_of_any_width_and_no_strangers(folder: Folder) -> None:
    """Empty files, part files, other prefixes and numbers beyond the count are no images of the set."""
    for name in ("reg_001.png", "reg_0003.png", "reg_099.png", "reg_004.png.part", "img_005.png", "reg_000.png"):
        (folder.images / name).write_bytes(b"x")
    (folder.images / "reg_002.png").touch()
    assert folder.present(9) == {0: 1, 2: 1}
    assert folder.beyond(9) == 1
    assert folder.strangers() == ["img_005.png"]


def test_the_disk_s_refusal_is_a_sentence() -> None:
    """Full, read-only: in words, with what was being done to what."""
    with pytest.raises(StorageError) as caught, storage("saving", Path("reg_001.png")):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(caught.value).startswith("saving reg_001.png: the disk is full")


def test_one_run_holds_a_dataset(folder: Folder) -> None:
    """The second is told by whom; when the first is over, the way is free."""
    assert is_held(folder) is None
    with held(folder):
        assert "process" in str(is_held(folder))
        with pytest.raises(Busy, match=f"process {os.getpid()}"), held(folder):
            pass
    assert is_held(folder) is None


def test_rows_come_back_as_they_were_put(tmp_path: Path) -> None:
    """Every column, every state."""
    full = replace(row(3), positive="a cat", seed=2**53 - 1, busy=0.5, bytes=10, sha256="ab", recipe="r1")
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    ledger.put([full, row(4, "given_up", 2), row(5, "rejected", 1)])
    assert list(ledger.walk("done", "given_up", "rejected")) == [full, row_like(ledger, 4), row_like(ledger, 5)]
    assert ledger.counts(10) == {"done": 1, "given_up": 1, "rejected": 1}
    assert ledger.counts(4) == {"done": 1}
    assert (ledger.done(0, 10), ledger.takes(0, 10)) == ({3}, {4: 2, 5: 1})
    assert (ledger.other_recipes("r1", 10), ledger.other_recipes("r2", 10)) == (0, 1)
    ledger.close()


def row_like(ledger: Ledger, idx: int) -> Row:
    return next(one for one in ledger.walk("given_up", "rejected") if one.idx == idx)


def test_a_ledger_can_be_read_beside_the_run_and_after_it(tmp_path: Path) -> None:
    """`status` needs no lock and no write access to the rows."""
    assert Ledger.read(tmp_path / "ledger.sqlite") is None
    writer = Ledger.open(tmp_path / "ledger.sqlite")
    writer.put([row(0)])
    beside = Ledger.read(tmp_path / "ledger.sqlite")
    assert beside is not None
    assert beside.done(0, 5) == {0}
    writer.put([row(1)])
    assert beside.done(0, 5) == {0, 1}
    beside.close()
    writer.close()
    after = Ledger.read(tmp_path / "ledger.sqlite")
    assert after is not None
    assert after.done(0, 5) == {0, 1}
    after.close()


def test_a_ledger_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    """Better no run than a ledger misread."""
    import sqlite3

    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StorageError, match="newer reggen"):
        Ledger.open(tmp_path / "ledger.sqlite")


def test_rubbish_instead_of_a_ledger_is_a_sentence(tmp_path: Path) -> None:
    """No traceback for a damaged disk."""
    (tmp_path / "ledger.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(StorageError, match="ledger"):
        Ledger.open(tmp_path / "ledger.sqlite")


def test_lasting_facts_are_claimed_once(tmp_path: Path) -> None:
    """Another prefix in the same folder is refused, with the one it was begun with."""
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    ledger.claim("a.toml", {"prefix": "reg"})
    ledger.claim("a.toml", {"prefix": "reg"})
    with pytest.raises(JobError, match="begun with 'reg'"):
        ledger.claim("a.toml", {"prefix": "img"})
    ledger.close()


def put_image(folder: Folder, name: str) -> None:
    folder.commit(Part(parted := folder.parts / name, parted.write_bytes(paint(name, 1, 64, 64)), ""), name)


def test_missing_walks_exactly_what_is_not_done(job: JobMaker, tmp_path: Path) -> None:
    """Window by window, with the take each slot is in."""
    plan = Plan(job(dataset={"count": 3000}))
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    ledger.put([row(idx) for idx in range(0, 3000, 2)])
    ledger.put([row(1, "rejected", 3)])
    orders = list(missing(ledger, plan))
    assert [order.samples[0].index for order in orders] == list(range(1, 3000, 2))
    assert [order.samples[0].take for order in orders[:2]] == [3, 0]
    ledger.close()


def test_reconciling_brings_ledger_and_folder_to_agree(job: JobMaker) -> None:
    """A row without its file is rejected, a file without its row adopted, a bad one set aside."""
    plan = Plan(one := job())
    folder = Folder(one.dataset)
    folder.prepare()
    ledger = Ledger.open(folder.state / "ledger.sqlite")
    ledger.put([row(0), row(1), row(2, "given_up", 2)])
    for name in ("reg_001", "reg_004"):
        put_image(folder, name)
    (folder.images / "reg_005.png").write_bytes(b"half a pict")
    resumed = reconcile(folder, ledger, plan, Demands((64, 64)))
    assert (resumed.deleted, resumed.adopted) == (["reg_002"], ["reg_004"])
    assert resumed.set_aside[0].startswith("reg_005.png is not a png file")
    assert ledger.done(0, 9) == {0, 3}
    assert ledger.takes(0, 9) == {1: 1, 2: 2}
    again = reconcile(folder, ledger, plan, Demands((64, 64)))
    assert (again.deleted, again.adopted, again.set_aside) == ([], [], [])
    ledger.close()
