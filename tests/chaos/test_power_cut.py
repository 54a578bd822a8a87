"""A power cut at any moment: whatever was not flushed may be lost, and the dataset is still sound."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reggen.dataset.folder import Folder
from reggen.dataset.ledger import Ledger
from reggen.dataset.part import Part
from reggen.dataset.reconcile import Reconciliation, changed_slots, missing_requests
from reggen.dataset.rows import now_utc
from reggen.engine.requirements import lasting
from reggen.engine.timings import EngineTimings
from reggen.engine.writer import AcceptedImage, DatasetWriter
from reggen.images.check import inspect
from reggen.job.models import Job
from reggen.sim import Settings, serve
from tests.chaos.disk import Recorder, StateAfterCut, states_after_cut
from tests.conftest import RUN_TIMINGS, JobMaker, filled
from tests.invariants import assert_sound
from tests.preparing import plan_of, prepared_of

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no fsync of folders")

IMAGES = 3


async def recorded(job: Job, timings: EngineTimings = RUN_TIMINGS) -> list[StateAfterCut]:
    """Fill a dataset while its disk is watched; every different state that a cut may leave, once."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        recorder = Recorder(Folder(job.dataset), stack)
        recorder.watch(patch)
        told = await filled(job, timings=timings)
        assert told.summary.exit_code == 0
    found: dict[tuple[Any, ...], StateAfterCut] = {}
    for left in (left for moment in recorder.moments for left in states_after_cut(moment)):
        found.setdefault((*sorted(left.files.items()), left.rows), left)
    return list(found.values())


def assert_survives(left: StateAfterCut, job: Job) -> None:
    """Check one state after a cut, as it is and after the next run has reconciled it."""
    folder, plan = Folder(job.dataset), plan_of(job)
    folder.images.mkdir(parents=True)
    for name, data in left.files.items():
        (folder.images / name).write_bytes(data)
    folder.prepare()
    with Ledger.open(folder.state) as ledger:
        ledger.facts.claim("job.toml", lasting(job.dataset))
        ledger.slots.put(left.rows)
        for row in left.rows:
            file = folder.file(row.name)
            assert file.exists(), f"a row says done about {file.name}, which is not there"
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            assert digest == row.sha256, f"a row says done about {file.name}, which is not whole"
        for file in folder.images.iterdir():
            inspect(
                file, file.name, prepared_of(job).check_settings, folder.ending
            )  # raises BadImage: half a file under such a name
        reconciling = Reconciliation(folder, ledger, prepared_of(job).check_settings)
        reconciling.by_name(plan)
        assert changed_slots(folder, len(plan)) == []
        assert (reconciling.found.deleted, reconciling.found.set_aside) == ([], []), (
            "the cut is taken for somebody's doing"
        )
        requests = list(missing_requests(ledger, plan))
        again = {sample.index for request in requests for sample in request.samples}
        assert again | ledger.slots.done(0, len(plan)) == set(range(len(plan)))
        assert all(sample.take == 0 for request in requests for sample in request.samples), "a slot has lost its seed"
    assert_sound(job, complete=False)


def surviving(lefts: list[StateAfterCut], job: JobMaker, tmp_path: Path, **dataset: Any) -> list[str]:
    """Try every cut; the failures, each with its cut."""
    broken = []
    for number, left in enumerate(lefts):
        place = job(dataset={"root": str(tmp_path / f"cut-{number}"), "count": IMAGES, **dataset})
        try:
            assert_survives(left, place)
        except Exception as error:  # noqa: BLE001 - whatever it is, the cut that did it is to be named
            broken.append(f"{left.cut}: {type(error).__name__}: {error}".splitlines()[0])
    return broken


@pytest.mark.parametrize("ending", ["png", "webp", "jpg"])
async def test_a_power_cut_at_any_moment_leaves_whole_images_and_true_rows(
    job: JobMaker, tmp_path: Path, ending: str
) -> None:
    """After every effect, with every loss that the disk may take: no row is done about a file that is not whole, no
    half file has an image's name, and the next run makes what is missing, under the same seeds.
    """
    one_by_one = replace(RUN_TIMINGS, written_together=1)
    async with serve(Settings(seconds=0.0)) as sim:
        lefts = await recorded(job(sim.url, dataset={"count": IMAGES, "format": ending}), one_by_one)
    assert surviving(lefts, job, tmp_path, format=ending) == []
    done = {len(left.rows) for left in lefts}
    assert done == set(range(IMAGES + 1)), "there were cuts before the first row, and after each"
    assert any(len(left.files) > len(left.rows) for left in lefts), "and some between an image and its row"


async def test_a_power_cut_leaves_whole_images_where_several_are_written_together(
    job: JobMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with fast servers: one flush of the folder and one commit of the ledger for all of them."""
    begin = DatasetWriter._begin

    def together(self: DatasetWriter) -> None:
        if len(self._waiting) == IMAGES:
            begin(self)

    monkeypatch.setattr(DatasetWriter, "_begin", together)
    async with serve(Settings(seconds=0.0)) as sim:
        lefts = await recorded(job(sim.url, dataset={"count": IMAGES}))
    assert {len(left.rows) for left in lefts} == {0, IMAGES}, "it was one group"
    assert any(len(left.files) == 2 for left in lefts)
    assert surviving(lefts, job, tmp_path) == []


# ---- the wrong orders, each of which some cut must find out


def _without_fsync(self: Folder, part: Part) -> None:
    pass


def _without_flush(self: Folder) -> None:
    pass


def _fsync_too_late(self: Folder, part: Part, name: str) -> Path:
    part.path.replace(self.file(name))
    with self.file(name).open("rb+") as file:
        os.fsync(file.fileno())
    return self.file(name)


def _row_too_early(self: DatasetWriter, group: Sequence[AcceptedImage]) -> list[None]:
    self._ledger.slots.put([accepted.row() for accepted in group])
    for accepted in group:
        self._place(accepted)
    self._folder.flush()
    return [None] * len(group)


@pytest.mark.parametrize(
    ("owner", "wrong", "cut"),
    [
        (Folder, {"sync": _without_fsync}, "is zeroed"),
        (Folder, {"flush": _without_flush}, "the name reg_001.png is lost"),
        (
            Folder,
            {"sync": _without_fsync, "place": _fsync_too_late},
            ".part to reg_001.png; reg_001.png is",
        ),
        (DatasetWriter, {"_write": _row_too_early}, "cut after the row of reg_00"),
    ],
    ids=["no fsync of the file", "no fsync of the folder", "fsync after the rename", "row before the rename"],
)
async def test_a_wrong_order_does_not_survive(
    *,
    job: JobMaker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    wrong: Mapping[str, Callable[..., Any]],
    cut: str,
) -> None:
    """The model of the disk finds the cut that breaks each wrong order of steps."""
    for name, step in wrong.items():
        monkeypatch.setattr(owner, name, step)
    async with serve(Settings(seconds=0.0)) as sim:
        lefts = await recorded(job(sim.url, dataset={"count": IMAGES}))
    broken = surviving(lefts, job, tmp_path)
    assert any(cut in one for one in broken), broken


def test_a_row_is_on_the_disk_when_its_commit_returns(tmp_path: Path) -> None:
    """synchronous=FULL, whatever SQLite was built with: in WAL mode anything less may lose the last rows."""
    with Ledger.open(tmp_path) as ledger:
        connection = ledger._database._connection
        ledger.runs.begin("a run", now_utc())
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert not connection.in_transaction
