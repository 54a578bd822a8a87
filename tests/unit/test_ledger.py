"""The ledger: rows, rejections and facts, written, read and kept."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest

from reggen.dataset.ledger import Ledger, ledger_file
from reggen.dataset.rows import Rejection, Row, now_utc
from reggen.errors import JobError, StorageError
from tests.ledgers import ledger_in


def row(idx: int, state: str = "done", take: int = 0) -> Row:
    return Row(idx, state, take, f"reg_{idx + 1:03d}", now_utc())


def test_rows_come_back_as_they_were_put(tmp_path: Path) -> None:
    """Every column, every state."""
    full = replace(row(3), positive="a cat", seed=2**53 - 1, busy=0.5, bytes=10, sha256="ab", recipe="r1")
    with Ledger.open(tmp_path) as ledger:
        ledger.slots.put([full, row(4, "given_up", 2), row(5, "rejected", 1)])
        assert list(ledger.slots.walk("done", "given_up", "rejected")) == [
            full,
            row_like(ledger, 4),
            row_like(ledger, 5),
        ]
        assert ledger.slots.counts(10) == {"done": 1, "given_up": 1, "rejected": 1}
        assert ledger.slots.counts(4) == {"done": 1}
        assert (ledger.slots.done(0, 10), ledger.slots.takes(0, 10)) == ({3}, {4: 2, 5: 1})
        assert (ledger.slots.other_recipes("r1", 10), ledger.slots.other_recipes("r2", 10)) == ([], [range(3, 4)])


def row_like(ledger: Ledger, idx: int) -> Row:
    return next(one for one in ledger.slots.walk("given_up", "rejected") if one.idx == idx)


def test_a_ledger_can_be_read_during_a_run_and_after_it(tmp_path: Path) -> None:
    """Reading needs no lock and no write access."""
    assert Ledger.read(tmp_path) is None
    with Ledger.open(tmp_path) as writer:
        writer.slots.put([row(0)])
        with ledger_in(tmp_path) as beside:
            assert beside.slots.done(0, 5) == {0}
            writer.slots.put([row(1)])
            assert beside.slots.done(0, 5) == {0, 1}
    with ledger_in(tmp_path) as after:
        assert after.slots.done(0, 5) == {0, 1}


@pytest.mark.skipif(os.name == "nt" or os.getuid() == 0, reason="nothing is read-only for root")
def test_a_ledger_in_a_folder_that_may_not_be_written_to(tmp_path: Path) -> None:
    """An archive, where SQLite cannot make its shared memory, is read all the same."""
    with Ledger.open(tmp_path) as writer:
        writer.slots.put([row(0)])
    tmp_path.chmod(0o500)
    try:
        with ledger_in(tmp_path) as archived:
            assert archived.slots.done(0, 5) == {0}
    finally:
        tmp_path.chmod(0o700)


def test_a_ledger_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    """Its rows may mean something else: the run does not begin."""
    with sqlite3.connect(ledger_file(tmp_path)) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StorageError, match="newer reggen"):
        Ledger.open(tmp_path)


def test_a_file_that_is_not_a_ledger_is_a_sentence(tmp_path: Path) -> None:
    """It is a StorageError that names the ledger."""
    (ledger_file(tmp_path)).write_bytes(b"this is no database" * 100)
    with pytest.raises(StorageError, match="ledger"):
        Ledger.open(tmp_path)


def test_lasting_facts_are_claimed_once(tmp_path: Path) -> None:
    """Another prefix in the same folder is refused, and the message names the first one."""
    with Ledger.open(tmp_path) as ledger:
        ledger.facts.claim("a.toml", {"prefix": "reg"})
        ledger.facts.claim("a.toml", {"prefix": "reg"})
        with pytest.raises(JobError, match="begun with 'reg'"):
            ledger.facts.claim("a.toml", {"prefix": "img"})


def old_ledger(path: Path) -> None:
    """As version 1 made it: no hashes, no rejections."""
    with sqlite3.connect(path) as db:
        db.execute(
            "CREATE TABLE slot (idx INTEGER PRIMARY KEY, state TEXT NOT NULL, take INTEGER NOT NULL, name TEXT NOT NULL"
            ", reason TEXT, positive TEXT, negative TEXT, seed INTEGER, batch INTEGER, position INTEGER, width INTEGER,"
            " height INTEGER, checkpoint TEXT, recipe TEXT, server TEXT, comfyui TEXT, prompt_id TEXT,"
            " attempts INTEGER, waited REAL, busy REAL, fetched REAL, bytes INTEGER, sha256 TEXT, at TEXT NOT NULL)"
        )
        db.execute("INSERT INTO slot (idx, state, take, name, at) VALUES (0, 'done', 0, 'reg_001', '2025')")
        db.execute("PRAGMA user_version = 1")
    db.close()


def test_a_ledger_of_version_1_is_read_as_it_is(tmp_path: Path) -> None:
    """`status` beside an older ledger changes nothing in it."""
    old_ledger(path := ledger_file(tmp_path))
    before = path.read_bytes()
    with ledger_in(tmp_path) as reader:
        assert [(one.name, one.likeness) for one in reader.slots.walk("done")] == [("reg_001", None)]
        assert (list(reader.rejections.walk()), list(reader.slots.phashes(10))) == ([], [])
    assert path.read_bytes() == before


def test_a_ledger_of_version_1_is_brought_up_to_date_when_a_run_opens_it(tmp_path: Path) -> None:
    """Its rows stay, without a hash; a reader that was open before can read on."""
    old_ledger(ledger_file(tmp_path))
    beside = Ledger.read(tmp_path)
    assert beside is not None
    for _ in range(2):
        Ledger.open(tmp_path).close()
    with Ledger.open(tmp_path) as ledger:
        ledger.slots.put([replace(row(1), likeness="00000000000000ff")])
        ledger.rejections.add([Rejection(1, 0, "is black", "2026", 7, "a")])
        assert [one.likeness for one in ledger.slots.walk("done")] == [None, "00000000000000ff"]
        assert list(ledger.slots.phashes(10)) == [(1, 255)]
        assert [one.name for one in beside.slots.walk("done")] == ["reg_001", "reg_002"]
        assert [one.reason for one in beside.rejections.walk()] == ["is black"]
        beside.close()


def test_rejections_are_kept_in_their_order_and_never_overwritten(tmp_path: Path) -> None:
    """A slot's row is replaced; the rejections of its pictures stay."""
    with Ledger.open(tmp_path) as ledger:
        told = [
            Rejection(3, 0, "is black", "t1", 9, "a"),
            Rejection(1, 0, "is torn", "t2"),
            Rejection(3, 1, "is black", "t3"),
        ]
        for one in told:
            ledger.rejections.add([one])
        ledger.slots.put([row(3)])
        assert list(ledger.rejections.walk()) == told
        assert list(ledger.rejections.walk(stop=3)) == [told[1]]


def test_the_last_hashes_are_read_first(tmp_path: Path) -> None:
    """Only those of done slots, and no more than asked for."""
    with Ledger.open(tmp_path) as ledger:
        ledger.slots.put([replace(row(idx), likeness=f"{idx:016x}") for idx in range(5)])
        ledger.slots.put([replace(row(2, "rejected"), likeness="0000000000000002"), row(5)])
        assert list(ledger.slots.phashes(3)) == [(4, 4), (3, 3), (1, 1)]


@pytest.mark.parametrize("gaps", [(), (0,), (5000,), (1023, 1024, 1025), range(0, 5000, 7), range(4999), range(5000)])
def test_done_slots_are_read_as_ranges(tmp_path: Path, gaps: Collection[int]) -> None:
    """Whatever is missing between them: each done slot once, in order, in few ranges."""
    with Ledger.open(tmp_path) as ledger:
        ledger.slots.put([row(index) for index in range(5000) if index not in gaps])
        ledger.slots.put([row(index, "given_up") for index in gaps])
        runs = list(ledger.slots.done_ranges(4500))
        assert [index for run in runs for index in run] == [index for index in range(4500) if index not in gaps]
        assert all(runs)
        assert len(runs) <= len(set(gaps)) + 64
