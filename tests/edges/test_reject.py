"""Rejecting by number: the same as deleting by hand, with a reason, and never during a run."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from reggen.dataset.captioning import rewrite_captions
from reggen.dataset.folder import Folder
from reggen.dataset.ledger import Ledger, ledger_file
from reggen.dataset.lock import locked
from reggen.dataset.reject import parse_slots, purge, reject
from reggen.dataset.rows import Row
from reggen.errors import DatasetLocked, JobError, StorageError
from reggen.prepare.prepared_job import prepare
from reggen.report.status import format_status, read_status
from reggen.sim import Settings, serve
from tests.conftest import JobMaker, filled
from tests.invariants import assert_sound
from tests.ledgers import ledger_in
from tests.pictures import paint
from tests.preparing import prepared_of

QUICK = Settings(seconds=0.005)


async def test_a_rejected_image_is_made_again_with_the_same_prompt_and_another_seed(job: JobMaker) -> None:
    """Its picture is set aside, its caption and caches are deleted, and nothing else is touched."""
    async with serve(QUICK) as sim:
        await filled(one := job(sim.url, captions={"write": "prompt"}))
        (prepared,) = prepare(one, "test.toml")
        folder = one.dataset.folder
        (folder / "reg_002_0064x0064_sd.npz").touch()
        before = prepared.plan.sample(1)
        assert reject(prepared.dataset, prepared.plan, parse_slots(["2", "4-5"], 6), "ugly").set_aside == (
            "reg_002",
            "reg_004",
            "reg_005",
        )
        left = sorted(file.name for file in folder.iterdir())
        assert left == [f"reg_00{n}.{kind}" for n in (1, 3, 6) for kind in ("caption", "png")]
        assert len(list((one.dataset.state / "rejected").iterdir())) == 3
        await filled(one)
        assert_sound(one)
        assert sim.count("POST", "/prompt") == 9
        with ledger_in(one.dataset.state) as ledger:
            row = next(row for row in ledger.slots.walk("done") if row.idx == 1)
        assert (row.take, row.positive) == (1, before.positive)
        assert row.seed == prepared.plan.sample(1, 1).seed != before.seed


async def test_an_image_with_a_shorter_number_is_rejected_with_all_its_files(job: JobMaker) -> None:
    """The count grew from 5 to 1005: the slot is reg_0002 now, and its picture, caption and caches are reg_002's."""
    async with serve(QUICK) as sim:
        told = {"write": "prompt", "extension": ".txt"}
        await filled(job(sim.url, captions=told, dataset={"count": 5}))
        (prepared,) = prepare(one := job(sim.url, captions=told, dataset={"count": 1005}), "test.toml")
        (one.dataset.folder / "reg_002.npz").touch()
        assert reject(prepared.dataset, prepared.plan, [1], "ugly").set_aside == ("reg_002",)
        assert not list(one.dataset.folder.glob("reg_*2.*"))


async def test_a_deleted_picture_with_a_shorter_number_leaves_nothing_behind(job: JobMaker) -> None:
    """Its row still has its name, by which its caption is found."""
    async with serve(QUICK) as sim:
        told = {"write": "prompt", "extension": ".txt"}
        await filled(job(sim.url, captions=told, dataset={"count": 5}))
        (prepared,) = prepare(one := job(sim.url, captions=told, dataset={"count": 1005}), "test.toml")
        (one.dataset.folder / "reg_002.png").unlink()
        assert reject(prepared.dataset, prepared.plan, [1], "ugly").empty == ("reg_0002",)
        assert not (one.dataset.folder / "reg_002.txt").exists()


async def test_every_rejection_is_in_the_ledger_with_its_reason(job: JobMaker) -> None:
    """The one of --why, or reggen's own for a deleted image; with the seed and the server of the picture."""
    async with serve(QUICK) as sim:
        await filled(one := job(sim.url, sampling={"seed": 7}))
        (prepared,) = prepare(one, "test.toml")
        reject(prepared.dataset, prepared.plan, [1], "six fingers")
        (one.dataset.folder / "reg_004.png").unlink()
        await filled(one)
        await filled(one)
    with ledger_in(one.dataset.state) as ledger:
        server = sim.url.removeprefix("http://")
        assert [(seen.idx, seen.take, seen.reason, seen.seed, seen.server) for seen in ledger.rejections.walk()] == [
            (1, 0, "six fingers", 8, server),
            (3, 0, "the image was deleted", 10, server),
        ]


def test_a_picture_without_a_row_is_rejected_without_a_seed(job: JobMaker) -> None:
    """Its seed is not known; an empty slot has no picture, so there is no rejection to note."""
    (prepared,) = prepare(one := job(), "test.toml")
    paint(one.dataset.folder / "reg_002.png")
    reject(prepared.dataset, prepared.plan, [1, 2], "not mine")
    with ledger_in(one.dataset.state) as ledger:
        assert [(seen.idx, seen.reason, seen.seed) for seen in ledger.rejections.walk()] == [(1, "not mine", None)]


async def test_rejecting_an_empty_slot_costs_no_seed(job: JobMaker) -> None:
    """The first picture that is made for it is still its first take."""
    async with serve(QUICK) as sim:
        (prepared,) = prepare(one := job(sim.url), "test.toml")
        found = reject(prepared.dataset, prepared.plan, [3], "why not")
        assert (found.set_aside, found.empty) == ((), ("reg_004",))
        await filled(one)
        assert_sound(one)
        with ledger_in(one.dataset.state) as ledger:
            assert {row.take for row in ledger.slots.walk("done")} == {0}


async def test_set_aside_pictures_stay_until_they_are_purged(job: JobMaker) -> None:
    """Until then a person may put them back."""
    async with serve(QUICK) as sim:
        await filled(one := job(sim.url))
        (prepared,) = prepare(one, "test.toml")
        reject(prepared.dataset, prepared.plan, [0], "ugly")
        assert purge(prepared.dataset) == 1
        assert purge(prepared.dataset) == 0


def test_nothing_is_rejected_during_a_run(job: JobMaker) -> None:
    """The run has locked the dataset."""
    (prepared,) = prepare(job(), "test.toml")
    with locked(Folder(prepared.dataset)), pytest.raises(DatasetLocked):
        reject(prepared.dataset, prepared.plan, [0], "ugly")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["17"], [16]),
        (["2", "4-6", "5"], [1, 3, 4, 5]),
        (["reg_007.png", "reg_009-reg_010"], [6, 8, 9]),
    ],
)
def test_numbers_as_people_write_them(words: list[str], found: list[int]) -> None:
    """One, several, ranges, and file names."""
    assert parse_slots(words, 20) == found


@pytest.mark.parametrize(
    "words", [["0"], ["21"], ["5-3"], ["x"], ["1", "two"], ["9" * 5_000]], ids=lambda words: "-".join(words)[:9]
)
def test_a_word_that_is_not_the_number_of_an_image_is_an_error(words: list[str]) -> None:
    """The message says which numbers there are."""
    with pytest.raises(JobError):
        parse_slots(words, 20)


async def test_the_report_of_the_last_run_stays_until_another_begins(job: JobMaker) -> None:
    """`reject`, `recaption` and a refused run leave it; a run that begins deletes it and writes its own."""
    async with serve(QUICK) as sim:
        await filled(one := job(sim.url, captions={"write": "prompt"}))
        report = one.dataset.state / "report.json"
        report.write_text("{}", encoding="utf-8")
        (prepared,) = prepare(one, "test.toml")
        reject(prepared.dataset, prepared.plan, [1], "ugly")
        rewrite_captions(prepared.dataset, prepared.plan, prepared.captions, prepared.guard)
        assert report.exists()
        with closing(sqlite3.connect(ledger_file(one.dataset.state))) as newer:
            version = newer.execute("PRAGMA user_version").fetchone()[0]
            newer.execute("PRAGMA user_version = 999")
        with pytest.raises(StorageError, match="newer"):
            await filled(one)
        assert report.exists()
        with closing(sqlite3.connect(ledger_file(one.dataset.state))) as older:
            older.execute(f"PRAGMA user_version = {version}")
        await filled(one)
        assert not report.exists()


def test_a_reason_has_no_control_characters(job: JobMaker) -> None:
    """`status` shows it in one line; reasons that an earlier reggen kept are cleaned when they are shown."""
    (prepared,) = prepare(one := job(), "test.toml")
    reject(prepared.dataset, prepared.plan, [1], "ugly\x1b[31m\nreg_006: fine")
    assert read_status(prepared_of(one).dataset).rejected == {"reg_002": "ugly [31m reg_006: fine"}
    with Ledger.open(one.dataset.state) as ledger:
        ledger.slots.put([Row(2, "rejected", 1, "reg_003", "2026", "old\x1b[2J\nnew")])
    assert "  rejected  reg_003: old [2J new\n" in format_status(read_status(prepared_of(one).dataset))
