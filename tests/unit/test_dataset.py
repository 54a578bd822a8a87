"""The folder and the ledger: what lies on the disk, and what is said of it."""

from __future__ import annotations

import errno
import os
import sqlite3
import tracemalloc
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest

from reggen.dataset.duplicates import Duplicates
from reggen.dataset.folder import Folder
from reggen.dataset.latent_caches import LatentCaches
from reggen.dataset.ledger import Ledger, ledger_file
from reggen.dataset.lock import lock_holder, locked
from reggen.dataset.part import Part
from reggen.dataset.reconcile import Comparison, Reconciled, Reconciliation, changed_slots, missing_requests
from reggen.dataset.rows import Rejection, Row, now_utc
from reggen.dataset.slot_files import SlotFiles
from reggen.dataset.storage import storage_errors
from reggen.errors import DatasetLocked, JobError, StorageError
from reggen.images.check import CheckSettings
from reggen.job.dataset import Dataset
from reggen.planning.plan import Plan
from reggen.sim import paint
from tests.conftest import JobMaker
from tests.preparing import plan_of


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(Dataset.model_validate({"root": tmp_path / "reg", "class": "thing", "count": 9}))
    made.prepare()
    return made


def part_of(folder: Folder, data: bytes) -> Part:
    """A part file with this content."""
    file = folder.parts / "reg_001.0.part"
    file.write_bytes(data)
    return Part.of(file)


def commit(folder: Folder, part: Part, name: str) -> None:
    """The three steps, for one picture."""
    folder.sync(part)
    folder.place(part, name)
    folder.flush()


def row(idx: int, state: str = "done", take: int = 0) -> Row:
    return Row(idx, state, take, f"reg_{idx + 1:03d}", now_utc())


def reconciled(
    folder: Folder, ledger: Ledger, plan: Plan, check_settings: CheckSettings, duplicates: Duplicates | None = None
) -> Reconciled:
    """By name, then by size."""
    reconciling = Reconciliation(folder, ledger, check_settings, duplicates)
    reconciling.by_name(plan)
    reconciling.by_size(plan, changed_slots(folder, len(plan)))
    return reconciling.found


def test_a_part_file_becomes_an_image_when_it_is_committed(folder: Folder) -> None:
    """Nothing is in the image folder before that, and nothing among the part files after it."""
    part = part_of(folder, b"abc")
    assert list(folder.images.iterdir()) == []
    commit(folder, part, "reg_001")
    assert (folder.images / "reg_001.png").read_bytes() == b"abc"
    assert list(folder.parts.iterdir()) == []


def test_a_commit_overwrites_nothing(folder: Folder) -> None:
    """Somebody put a file there meanwhile: it is set aside, not lost."""
    (folder.images / "reg_001.png").write_bytes(b"somebody's")
    commit(folder, part_of(folder, b"ours"), "reg_001")
    assert (folder.images / "reg_001.png").read_bytes() == b"ours"
    assert [file.read_bytes() for file in folder.rejected.iterdir()] == [b"somebody's"]


def test_a_commit_removes_the_caches_of_the_slot_and_of_no_other(folder: Folder) -> None:
    """reg_001*.npz goes, reg_0010*.npz stays."""
    for name in ("reg_001.npz", "reg_001_0064x0064_sd.npz", "reg_0010.npz", "reg_002_0064x0064_sd.npz"):
        (folder.images / name).touch()
    folder.prepare()
    commit(folder, part_of(folder, b"ours"), "reg_001")
    assert sorted(file.name for file in folder.images.glob("*.npz")) == ["reg_0010.npz", "reg_002_0064x0064_sd.npz"]


def test_slots_are_seen_by_numbers_of_any_width_and_no_strangers(folder: Folder) -> None:
    """Part files, other prefixes and numbers beyond the count are no images of the set; empty files by their size."""
    for name in ("reg_001.png", "reg_0003.png", "reg_099.png", "reg_004.png.part", "img_005.png", "reg_000.png"):
        (folder.images / name).write_bytes(b"x")
    (folder.images / "reg_002.png").touch()
    assert SlotFiles(folder).present(0) == (bytearray(), {-1, 0, 1, 2, 98})
    assert SlotFiles(folder).present(4) == (bytearray((1, 1, 1, 0)), {-1, 98})
    assert sorted(SlotFiles(folder).sizes()) == [(-1, 1), (0, 1), (1, 0), (2, 1), (98, 1)]
    assert SlotFiles(folder).count_beyond(9) == 1
    assert SlotFiles(folder).foreign_images() == ["img_005.png"]


def test_the_disk_s_refusal_is_a_sentence() -> None:
    """Full, read-only: in words, with what was being done to what."""
    with pytest.raises(StorageError) as caught, storage_errors("saving", Path("reg_001.png")):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(caught.value).startswith("saving reg_001.png: the disk is full")


def test_one_run_holds_a_dataset(folder: Folder) -> None:
    """The second is told by whom; when the first is over, the way is free."""
    assert lock_holder(folder.state) is None
    with locked(folder):
        assert "process" in str(lock_holder(folder.state))
        with pytest.raises(DatasetLocked, match=f"process {os.getpid()}"), locked(folder):
            pass
    assert lock_holder(folder.state) is None


@pytest.mark.skipif(os.name == "nt", reason="Windows deletes no file that is open")
@pytest.mark.parametrize("lost", [("lock",), ("lock", "holder.txt")])
def test_a_lock_that_is_deleted_is_held_all_the_same(folder: Folder, lost: tuple[str, ...]) -> None:
    """Somebody took it for a leftover: the second run is refused, and status knows."""
    with locked(folder):
        for name in lost:
            (folder.state / name).unlink()
        assert lock_holder(folder.state) is not None
        with pytest.raises(DatasetLocked, match="process"), locked(folder):
            pass
        assert lock_holder(folder.state) is not None
    assert lock_holder(folder.state) is None
    with locked(folder):
        pass


def test_rows_come_back_as_they_were_put(tmp_path: Path) -> None:
    """Every column, every state."""
    full = replace(row(3), positive="a cat", seed=2**53 - 1, busy=0.5, bytes=10, sha256="ab", recipe="r1")
    ledger = Ledger.open(tmp_path)
    ledger.slots.put([full, row(4, "given_up", 2), row(5, "rejected", 1)])
    assert list(ledger.slots.walk("done", "given_up", "rejected")) == [full, row_like(ledger, 4), row_like(ledger, 5)]
    assert ledger.slots.counts(10) == {"done": 1, "given_up": 1, "rejected": 1}
    assert ledger.slots.counts(4) == {"done": 1}
    assert (ledger.slots.done(0, 10), ledger.slots.takes(0, 10)) == ({3}, {4: 2, 5: 1})
    assert (ledger.slots.other_recipes("r1", 10), ledger.slots.other_recipes("r2", 10)) == ([], [range(3, 4)])
    ledger.close()


def row_like(ledger: Ledger, idx: int) -> Row:
    return next(one for one in ledger.slots.walk("given_up", "rejected") if one.idx == idx)


def test_a_ledger_can_be_read_beside_the_run_and_after_it(tmp_path: Path) -> None:
    """`status` needs no lock and no write access to the rows."""
    assert Ledger.read(tmp_path) is None
    writer = Ledger.open(tmp_path)
    writer.slots.put([row(0)])
    beside = Ledger.read(tmp_path)
    assert beside is not None
    assert beside.slots.done(0, 5) == {0}
    writer.slots.put([row(1)])
    assert beside.slots.done(0, 5) == {0, 1}
    beside.close()
    writer.close()
    after = Ledger.read(tmp_path)
    assert after is not None
    assert after.slots.done(0, 5) == {0, 1}
    after.close()


@pytest.mark.skipif(os.name == "nt" or os.getuid() == 0, reason="nothing is read-only for root")
def test_a_ledger_in_a_folder_that_may_not_be_written_to(tmp_path: Path) -> None:
    """An archive: SQLite cannot make its shared memory there, and need not."""
    writer = Ledger.open(tmp_path)
    writer.slots.put([row(0)])
    writer.close()
    tmp_path.chmod(0o500)
    try:
        archived = Ledger.read(tmp_path)
        assert archived is not None
        assert archived.slots.done(0, 5) == {0}
        archived.close()
    finally:
        tmp_path.chmod(0o700)


def test_a_ledger_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    """Better no run than a ledger misread."""
    with sqlite3.connect(ledger_file(tmp_path)) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StorageError, match="newer reggen"):
        Ledger.open(tmp_path)


def test_rubbish_instead_of_a_ledger_is_a_sentence(tmp_path: Path) -> None:
    """No traceback for a damaged disk."""
    (ledger_file(tmp_path)).write_bytes(b"this is no database" * 100)
    with pytest.raises(StorageError, match="ledger"):
        Ledger.open(tmp_path)


def test_lasting_facts_are_claimed_once(tmp_path: Path) -> None:
    """Another prefix in the same folder is refused, with the one it was begun with."""
    ledger = Ledger.open(tmp_path)
    ledger.facts.claim("a.toml", {"prefix": "reg"})
    ledger.facts.claim("a.toml", {"prefix": "reg"})
    with pytest.raises(JobError, match="begun with 'reg'"):
        ledger.facts.claim("a.toml", {"prefix": "img"})
    ledger.close()


def put_image(folder: Folder, name: str) -> None:
    commit(folder, Part(parted := folder.parts / name, parted.write_bytes(paint(name, 1, 64, 64)), ""), name)


def test_missing_walks_exactly_what_is_not_done(job: JobMaker, tmp_path: Path) -> None:
    """Window by window, with the take each slot is in."""
    plan = plan_of(job(dataset={"count": 3000}))
    ledger = Ledger.open(tmp_path)
    ledger.slots.put([row(idx) for idx in range(0, 3000, 2)])
    ledger.slots.put([row(1, "rejected", 3)])
    requests = list(missing_requests(ledger, plan))
    assert [request.samples[0].index for request in requests] == list(range(1, 3000, 2))
    assert [request.samples[0].take for request in requests[:2]] == [3, 0]
    ledger.close()


def test_a_window_that_lacks_one_slot_is_walked(job: JobMaker, tmp_path: Path) -> None:
    """Only what is full to the last slot is skipped unread; a slot that is settled otherwise does not fill it."""
    plan = plan_of(job(dataset={"count": 5000}))
    ledger = Ledger.open(tmp_path)
    ledger.slots.put([row(idx) for idx in range(5000) if idx not in {1023, 2048, 3100}] + [row(3100, "given_up", 1)])
    assert [request.samples[0].index for request in missing_requests(ledger, plan)] == [1023, 2048, 3100]
    ledger.close()


def test_reconciling_brings_ledger_and_folder_to_agree(job: JobMaker) -> None:
    """A row without its file is rejected, a file without its row adopted, a bad one set aside."""
    plan = plan_of(one := job())
    folder = Folder(one.dataset)
    folder.prepare()
    ledger = Ledger.open(folder.state)
    ledger.slots.put([row(0), row(1), row(2, "given_up", 2)])
    for name in ("reg_001", "reg_004"):
        put_image(folder, name)
    (folder.images / "reg_005.png").write_bytes(b"half a pict")
    resumed = reconciled(folder, ledger, plan, CheckSettings((64, 64)))
    assert (resumed.deleted, resumed.adopted) == (["reg_002"], ["reg_004"])
    assert resumed.set_aside[0].startswith("reg_005.png is not a png file")
    assert ledger.slots.done(0, 9) == {0, 3}
    assert ledger.slots.takes(0, 9) == {1: 1, 2: 2}
    again = reconciled(folder, ledger, plan, CheckSettings((64, 64)))
    assert (again.deleted, again.adopted, again.set_aside) == ([], [], [])
    ledger.close()


def test_ledger_and_folder_are_compared_by_name(job: JobMaker) -> None:
    """What is on both sides is only counted. A plan of any length costs nothing."""
    folder = Folder(job().dataset)
    folder.prepare()
    ledger = Ledger.open(folder.state)
    ledger.slots.put([row(0), row(1), row(2, "given_up", 2), row(8), row(9)])
    for number in (1, 3, 4, 10):
        (folder.images / f"reg_{number:03d}.png").write_bytes(b"x")
    assert Comparison.of(folder, ledger, 9) == Comparison(present=1, deleted=[1, 8], unrecorded=[2, 3])
    assert Comparison.of(folder, ledger, 1 << 40) == Comparison(present=2, deleted=[1, 8], unrecorded=[2, 3])
    assert Comparison.of(folder, ledger, 0) == Comparison(present=0, deleted=[], unrecorded=[])
    ledger.close()


def test_a_file_of_another_size_than_its_row_is_checked_anew(job: JobMaker) -> None:
    """Mended by hand it is kept, as another take; broken it is set aside; emptied it was deleted.

    Told are the slots that are done no more. A row that knows no size is content with any file that is not empty.
    """
    plan = plan_of(one := job())
    folder = Folder(one.dataset)
    folder.prepare()
    ledger = Ledger.open(folder.state)
    names = [f"reg_{number:03d}" for number in range(1, 8)]
    for name in names:
        put_image(folder, name)
    sizes = [folder.file(name).stat().st_size for name in names]
    ledger.slots.put(
        [replace(row(idx), bytes=size) for idx, size in enumerate(sizes[:6])] + [row(6), row(8, "rejected")]
    )
    folder.file(names[1]).write_bytes(paint("mended", 2, 64, 64))
    folder.file(names[2]).write_bytes(b"half a pict")
    folder.file(names[3]).write_bytes(b"")
    reconciling = Reconciliation(folder, ledger, CheckSettings((64, 64)))
    reconciling.by_name(plan)
    assert reconciling.found == Reconciled()
    folder.file(names[4]).unlink()
    assert changed_slots(folder, 9, stopped=lambda: True) == []
    changed = changed_slots(folder, 9)
    assert changed == [1, 2, 3, 4]
    assert sorted(reconciling.by_size(plan, changed)) == [(2, 1), (3, 1), (4, 1)]
    found = reconciling.found
    assert (found.adopted, found.deleted) == ([names[1]], names[3:5])
    assert [text.split()[0] for text in found.set_aside] == ["reg_003.png"]
    assert ledger.slots.done(0, 9) == {0, 1, 5, 6}
    assert ledger.slots.takes(0, 9) == {2: 1, 3: 1, 4: 1}
    assert next(one.take for one in ledger.slots.walk("done") if one.idx == 1) == 1
    assert [(seen.idx, seen.take) for seen in ledger.rejections.walk()] == [(3, 0), (4, 0), (2, 1)]
    assert changed_slots(folder, 9) == []
    ledger.close()


@pytest.mark.skipif(os.name == "nt", reason="only some may make links there")
def test_a_link_to_nowhere_is_a_deleted_image(job: JobMaker) -> None:
    """Its name is there, and nothing else."""
    folder = Folder(job().dataset)
    folder.prepare()
    ledger = Ledger.open(folder.state)
    ledger.slots.put([replace(row(0), bytes=9)])
    folder.file("reg_001").symlink_to("nowhere.png")
    assert reconciled(folder, ledger, plan_of(job()), CheckSettings((64, 64))).deleted == ["reg_001"]
    ledger.close()


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
    reader = Ledger.read(tmp_path)
    assert reader is not None
    assert [(one.name, one.likeness) for one in reader.slots.walk("done")] == [("reg_001", None)]
    assert (list(reader.rejections.walk()), list(reader.slots.phashes(10))) == ([], [])
    reader.close()
    assert path.read_bytes() == before


def test_a_ledger_of_version_1_is_brought_up_to_date_when_a_run_opens_it(tmp_path: Path) -> None:
    """Its rows stay, without a hash; a reader that was there before goes on reading."""
    old_ledger(ledger_file(tmp_path))
    beside = Ledger.read(tmp_path)
    assert beside is not None
    for _ in range(2):
        Ledger.open(tmp_path).close()
    ledger = Ledger.open(tmp_path)
    ledger.slots.put([replace(row(1), likeness="00000000000000ff")])
    ledger.rejections.add([Rejection(1, 0, "is black", "2026", 7, "a")])
    assert [one.likeness for one in ledger.slots.walk("done")] == [None, "00000000000000ff"]
    assert list(ledger.slots.phashes(10)) == [(1, 255)]
    assert [one.name for one in beside.slots.walk("done")] == ["reg_001", "reg_002"]
    assert [one.reason for one in beside.rejections.walk()] == ["is black"]
    beside.close()
    ledger.close()


def test_rejections_are_kept_in_their_order_and_never_overwritten(tmp_path: Path) -> None:
    """A slot's row says what it is now, these say what it was."""
    ledger = Ledger.open(tmp_path)
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
    ledger.close()


def test_the_last_hashes_are_read_first(tmp_path: Path) -> None:
    """Of done slots that have one; so many as are wanted."""
    ledger = Ledger.open(tmp_path)
    ledger.slots.put([replace(row(idx), likeness=f"{idx:016x}") for idx in range(5)])
    ledger.slots.put([replace(row(2, "rejected"), likeness="0000000000000002"), row(5)])
    assert list(ledger.slots.phashes(3)) == [(4, 4), (3, 3), (1, 1)]
    ledger.close()


def test_a_file_that_is_there_twice_is_adopted_once(job: JobMaker, tmp_path: Path) -> None:
    """The copy is set aside with its reason, and so is one that is a training image."""
    plan = plan_of(one := job())
    folder = Folder(one.dataset)
    folder.prepare()
    ledger = Ledger.open(folder.state)
    for number, seed in ((1, 7), (3, 8), (4, 7), (5, 9)):
        (folder.images / f"reg_00{number}.png").write_bytes(paint("a", seed, 64, 64))
    train = tmp_path / "train" / "10_spyke" / "a.png"
    train.parent.mkdir(parents=True)
    train.write_bytes(paint("a", 9, 64, 64))
    gate = Duplicates(folder, 6, [train])
    resumed = reconciled(folder, ledger, plan, CheckSettings((64, 64), duplicates=True), gate)
    assert resumed.adopted == ["reg_001", "reg_003"]
    reasons = ["is the same picture as reg_001", "is the same picture as the training image train/10_spyke/a.png"]
    assert resumed.set_aside == [f"reg_004.png {reasons[0]}", f"reg_005.png {reasons[1]}"]
    assert [(seen.idx, seen.reason) for seen in ledger.rejections.walk()] == [(3, reasons[0]), (4, reasons[1])]
    assert len(list(folder.rejected.iterdir())) == 2
    assert [index for index, _ in ledger.slots.phashes(9)] == [2, 0]
    ledger.close()


@pytest.mark.parametrize("name", ["reg_2.png", "reg_002.png", "reg_00002.png"])
def test_an_image_is_found_whatever_the_width_of_its_number(folder: Folder, name: str) -> None:
    """A count that was raised leaves narrower names behind."""
    assert SlotFiles(folder).find(1) is None
    (folder.images / name).write_bytes(b"x")
    assert SlotFiles(folder).find(1) == folder.images / name


@pytest.mark.parametrize("gaps", [(), (0,), (5000,), (1023, 1024, 1025), range(0, 5000, 7), range(4999), range(5000)])
def test_done_slots_are_told_as_runs(tmp_path: Path, gaps: Collection[int]) -> None:
    """Whatever is missing between them, and however much: each done slot once, in order, in few runs."""
    ledger = Ledger.open(tmp_path)
    ledger.slots.put([row(index) for index in range(5000) if index not in gaps])
    ledger.slots.put([row(index, "given_up") for index in gaps])
    runs = list(ledger.slots.done_ranges(4500))
    assert [index for run in runs for index in run] == [index for index in range(4500) if index not in gaps]
    assert all(runs)
    assert len(runs) <= len(set(gaps)) + 64
    ledger.close()


def test_latent_caches_take_no_memory_for_each_image(tmp_path: Path) -> None:
    """A trained set of a million images has a million caches; their names differ in the number alone."""
    for number in range(1, 1001):
        (tmp_path / f"reg_{number:04d}_0064x0064_sd.npz").touch()
    caches = LatentCaches(tmp_path, "reg")
    tracemalloc.start()
    try:
        caches.scan()
        assert tracemalloc.get_traced_memory()[0] < 10_000
    finally:
        tracemalloc.stop()
    caches.drop("reg_0500")
    assert len(list(tmp_path.iterdir())) == 999
