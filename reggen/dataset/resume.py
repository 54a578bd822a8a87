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
from reggen.dataset.folder import CAPTIONS, Folder, Part
from reggen.dataset.ledger import Ledger, Rejection, Row, now_utc
from reggen.errors import BadImage
from reggen.guard import Guard
from reggen.job import Captions
from reggen.plan import MAX_TAKES, Order, Plan

_NAMED = 5  # images that are named in a sentence
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


@dataclass(slots=True)
class Captioned:
    """What became of images of earlier runs that lacked a caption, by name."""

    written: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def words(self, extension: str) -> Iterator[str]:
        """What there is to say about it."""
        if self.moved:
            yield f"{_named(self.moved)}: the caption beside it now ends with {extension}, as the job wants it"
        if self.left:
            yield (
                f"{_named(self.left)}: no caption is written, for it was made with another prompt than today's, "
                "or one that is not known or forbidden; write it by hand, or delete the image"
            )


def caption(folder: Folder, ledger: Ledger, plan: Plan, captions: Captions, guard: Guard) -> Captioned:
    """Write the captions that images of earlier runs lack, or have under another ending. Raises StorageError.

    A caption that is there stays as it is, unless it is empty, which would end a training.
    """
    extension, done = captions.extension, Captioned()
    there = folder.captioned(extension)
    others = {other: folder.captioned(other) for other in CAPTIONS if other != extension}
    for row in ledger.walk("done", stop=len(plan)):
        if row.name in there:
            continue
        if old := next((other for other, names in others.items() if row.name in names), None):
            folder.move_caption(row.name, old, extension)
            done.moved.append(row.name)
        elif (text := _caption_of(row, plan, captions.write)) and not guard.find(text):
            folder.drop_captions(row.name)
            folder.write_caption(row.name, text, extension)
            done.written.append(row.name)
        else:
            done.left.append(row.name)
    return done


def _caption_of(row: Row, plan: Plan, write: str) -> str | None:
    """What an image's caption is by its row: the plan of today may have another prompt for its slot."""
    sample = plan.sample(row.idx, row.take)
    todays = plan.source.own.positive or None if sample.positive is None else sample.positive
    unsaid = row.positive is None and sample.positive is None  # the workflow's own, before the ledger had it
    if write == "class" or unsaid or (row.positive is not None and row.positive == todays):
        return sample.caption
    return " ".join((row.positive or "").split()) if write == "prompt" else None


def _named(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def missing(ledger: Ledger, plan: Plan) -> Iterator[Order]:
    """The orders still to be made, read from the ledger window by window while it is walked."""
    window = plan.aligned(_WINDOW)
    full = ledger.full(window)
    for start in range(0, len(plan), window):
        if start // window in full:
            continue
        stop = start + window
        yield from plan.orders(start, stop, ledger.takes(start, stop), ledger.done(start, stop))


def _adopt(plan: Plan, index: int, take: int, file: Part, finding: Finding) -> Row:
    """The row of a file that has none. Only its own note can say which seed made it."""
    note = finding.note
    if 0 <= note.get("take", -1) < MAX_TAKES:
        take = note["take"]
    sample = plan.sample(index, take)
    ours = note.get("seed") == sample.seed and note.get("batch", sample.batch) == sample.batch
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
