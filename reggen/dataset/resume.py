"""What is already there: the ledger and the folder brought to agree before a run. Blocking.

- A row without its file: somebody deleted the image, which rejects it. The slot goes to its next take.
- A file that is not the one of its row any more: checked anew. Somebody may have mended it, or the disk broke it.
- A file without its row: a crash between rename and row, or a set begun by hand. It is checked and adopted;
  what fails the checks is set aside in ``rejected/``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from reggen.dataset.check import Demands, Finding, inspect
from reggen.dataset.duplicates import Duplicates
from reggen.dataset.folder import Folder, Part
from reggen.dataset.ledger import Ledger, Rejection, Row, now_utc
from reggen.errors import BadImage
from reggen.plan import MAX_TAKES, Order, Plan

_WINDOW = 1024  # slots looked up in the ledger at a time


@dataclass(slots=True)
class Resumed:
    """What a run found, by name; each list is as short as its cause is rare."""

    adopted: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    set_aside: list[str] = field(default_factory=list)  # "name reason"


def reconcile(
    folder: Folder, ledger: Ledger, plan: Plan, demands: Demands, duplicates: Duplicates | None = None
) -> Resumed:
    """Bring ledger and folder to agree; an adopted file must be no duplicate, when asked. Raises StorageError."""
    resumed, count = Resumed(), len(plan)
    present = folder.present(count)
    rejected: list[Row] = []
    why, now = "the image was deleted", now_utc()
    takes: dict[int, int] = {}
    for index, state, take, name, size in ledger.outline(count):
        if state != "done":
            takes[index] = take
        elif index not in present:
            rejected.append(Row(index, "rejected", take + 1, name, now, why))
            resumed.deleted.append(name)
        elif size in {None, present[index]}:
            del present[index]  # settled: row and file
        else:  # changed since: mended by hand, or damaged
            takes[index] = take + 1
    ledger.turn_away((row.idx for row in rejected), why, now)
    ledger.put(rejected)
    for index, path in sorted(folder.files(present).items()):
        try:
            finding = inspect(path, path.stem, demands.of(plan[index].size), folder.ending)
            if duplicates:
                duplicates.demand_new(path.stem, index, path, finding.prints)
        except BadImage as error:
            resumed.set_aside.append(f"{path.name} {error.reason}")
            folder.set_aside(path)
            take, at = takes.get(index, 0), now_utc()
            row = Row(index, "rejected", take, path.stem, at, error.reason)
            ledger.put([row])
            ledger.reject([Rejection(index, take, error.reason, at)])
        else:
            ledger.put([_adopt(plan, index, takes.get(index, 0), folder.measured(path), finding)])
            resumed.adopted.append(path.stem)
            if duplicates:
                duplicates.add(index, finding.hash)
    return resumed


def caption(folder: Folder, ledger: Ledger, plan: Plan, extension: str) -> int:
    """Write the captions that images of earlier runs lack; how many. Raises StorageError."""
    there = folder.captioned(extension)
    lacking = (row for row in ledger.walk("done", stop=len(plan)) if row.name not in there)
    written = 0
    for row in lacking:
        if text := plan.sample(row.idx, row.take).caption:
            folder.write_caption(row.name, text, extension)
            written += 1
    return written


def missing(ledger: Ledger, plan: Plan) -> Iterator[Order]:
    """The orders still to be made, read from the ledger window by window while it is walked."""
    window = plan.aligned(_WINDOW)
    for start in range(0, len(plan), window):
        stop = start + window
        yield from plan.orders(start, stop, ledger.takes(start, stop), ledger.done(start, stop))


def _adopt(plan: Plan, index: int, take: int, file: Part, finding: Finding) -> Row:
    """The row of a file that has none. Only its own note can say which seed made it."""
    note = finding.note
    if 0 <= note.get("take", -1) < MAX_TAKES:
        take = note["take"]
    sample = plan.sample(index, take)
    ours = note.get("seed") == sample.seed
    return Row(
        idx=index,
        state="done",
        take=take,
        name=file.path.stem,
        reason="adopted",
        positive=sample.positive if ours else None,
        negative=sample.negative if ours else None,
        seed=sample.seed if ours else None,
        batch=sample.batch if ours else None,
        position=sample.position if ours else None,
        width=finding.width,
        height=finding.height,
        bytes=file.size,
        sha256=file.sha256,
        likeness=finding.likeness,
        at=now_utc(),
    )
