"""Ledger and folder brought to agree, and the slots that are missing."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from reggen.dataset.duplicates import Duplicates
from reggen.dataset.folder import Folder
from reggen.dataset.ledger import Ledger
from reggen.dataset.reconcile import Comparison, Reconciled, Reconciliation, changed_slots, missing_requests
from reggen.dataset.rows import Row, now_utc
from reggen.images.check import CheckSettings
from reggen.planning.plan import Plan
from reggen.sim import paint
from tests.conftest import JobMaker
from tests.preparing import plan_of


def row(idx: int, state: str = "done", take: int = 0) -> Row:
    return Row(idx, state, take, f"reg_{idx + 1:03d}", now_utc())


def put_image(folder: Folder, name: str) -> None:
    folder.file(name).write_bytes(paint(name, 1, 64, 64))


def reconciled(
    folder: Folder, ledger: Ledger, plan: Plan, check_settings: CheckSettings, duplicates: Duplicates | None = None
) -> Reconciled:
    """Reconcile by name, then by size."""
    reconciling = Reconciliation(folder, ledger, check_settings, duplicates)
    reconciling.by_name(plan)
    reconciling.by_size(plan, changed_slots(folder, len(plan)))
    return reconciling.found


def test_missing_requests_are_those_of_slots_that_are_not_done(job: JobMaker, tmp_path: Path) -> None:
    """Window by window, with the take each slot is in."""
    plan = plan_of(job(dataset={"count": 3000}))
    with Ledger.open(tmp_path) as ledger:
        ledger.slots.put([row(idx) for idx in range(0, 3000, 2)])
        ledger.slots.put([row(1, "rejected", 3)])
        requests = list(missing_requests(ledger, plan))
        assert [request.samples[0].index for request in requests] == list(range(1, 3000, 2))
        assert [request.samples[0].take for request in requests[:2]] == [3, 0]


def test_a_window_that_lacks_one_slot_is_read(job: JobMaker, tmp_path: Path) -> None:
    """Only windows whose slots are all done are skipped; a given-up slot is not done."""
    plan = plan_of(job(dataset={"count": 5000}))
    with Ledger.open(tmp_path) as ledger:
        ledger.slots.put(
            [row(idx) for idx in range(5000) if idx not in {1023, 2048, 3100}] + [row(3100, "given_up", 1)]
        )
        assert [request.samples[0].index for request in missing_requests(ledger, plan)] == [1023, 2048, 3100]


def test_reconciling_brings_ledger_and_folder_to_agree(job: JobMaker) -> None:
    """A row without its file is rejected, a file without its row adopted, a bad one set aside."""
    plan = plan_of(one := job())
    folder = Folder(one.dataset)
    folder.prepare()
    with Ledger.open(folder.state) as ledger:
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


def test_ledger_and_folder_are_compared_by_name(job: JobMaker) -> None:
    """Slots that agree are only counted, and a plan of any length takes no time."""
    folder = Folder(job().dataset)
    folder.prepare()
    with Ledger.open(folder.state) as ledger:
        ledger.slots.put([row(0), row(1), row(2, "given_up", 2), row(8), row(9)])
        for number in (1, 3, 4, 10):
            (folder.images / f"reg_{number:03d}.png").write_bytes(b"x")
        assert Comparison.of(folder, ledger, 9) == Comparison(present=1, deleted=[1, 8], unrecorded=[2, 3])
        assert Comparison.of(folder, ledger, 1 << 40) == Comparison(present=2, deleted=[1, 8], unrecorded=[2, 3])
        assert Comparison.of(folder, ledger, 0) == Comparison(present=0, deleted=[], unrecorded=[])


def test_a_file_of_another_size_than_its_row_is_checked_again(job: JobMaker) -> None:
    """Mended by hand it is kept, as another take; broken it is set aside; emptied it was deleted.

    Told are the slots that are done no more. A row that knows no size is content with any file that is not empty.
    """
    plan = plan_of(one := job())
    folder = Folder(one.dataset)
    folder.prepare()
    with Ledger.open(folder.state) as ledger:
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


@pytest.mark.skipif(os.name == "nt", reason="only some may make links there")
def test_a_broken_link_is_a_deleted_image(job: JobMaker) -> None:
    """It has a name in the folder, and no bytes."""
    folder = Folder(job().dataset)
    folder.prepare()
    with Ledger.open(folder.state) as ledger:
        ledger.slots.put([replace(row(0), bytes=9)])
        folder.file("reg_001").symlink_to("nowhere.png")
        assert reconciled(folder, ledger, plan_of(job()), CheckSettings((64, 64))).deleted == ["reg_001"]


def test_a_file_that_is_there_twice_is_adopted_once(job: JobMaker, tmp_path: Path) -> None:
    """The copy is set aside with the reason, and so is a copy of a training image."""
    plan = plan_of(one := job())
    folder = Folder(one.dataset)
    folder.prepare()
    with Ledger.open(folder.state) as ledger:
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
