"""What is already there: the ledger and the folder brought to agree. Blocking.

By their names, before anything is asked of a server:

- A row without its file: somebody deleted the image, which rejects it. The slot goes to its next take.
- A file without its row: a crash between rename and row, or a set begun by hand. It is checked and adopted;
  what fails the checks is set aside in ``rejected/``.

By their sizes, which takes long where there are very many, and may be done beside a run:

- A file that is not the one of its row any more: checked anew. Somebody may have mended it, or the disk broke it.
  What was deleted since the names were looked at is seen, too.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from reggen.dataset.duplicates import Duplicates
from reggen.dataset.folder import Folder
from reggen.dataset.ledger import LEDGER, Ledger, Rejection, Row, now_utc
from reggen.dataset.part import Part
from reggen.dataset.slot_files import SlotFiles
from reggen.errors import BadImage, LedgerDamaged
from reggen.images.check import CheckSettings, Inspection, inspect
from reggen.planning.plan import MAX_TAKES, Plan, PromptRequest

_WINDOW = 1024  # slots looked up in the ledger at a time
_SETTLED, _UNKNOWN = -1, -2  # in place of a size


@dataclass(frozen=True, slots=True)
class Comparison:
    """Slots of a ledger and a folder, by name: done and there, done but gone, there without being done."""

    settled: int
    gone: list[int]
    undone: list[int]

    @classmethod
    def of(cls, folder: Folder, ledger: Ledger, count: int) -> Comparison:
        """Of the first ``count`` slots. Raises StorageError.

        The ledger is read first: a run beside this writes a row when the file is there.
        """
        done = list(ledger.runs_done(count))
        there, beyond = SlotFiles(folder).present(done[-1].stop if done else 0)
        gone: list[int] = []
        for run in done:
            if there.count(1, run.start, run.stop) < len(run):
                gone += (index for index in run if not there[index])
            there[run.start : run.stop] = bytes(len(run))
        undone = [index for index, mark in enumerate(there) if mark] if 1 in there else []
        undone += sorted(index for index in beyond if 0 <= index < count)
        return cls(sum(map(len, done)) - len(gone), gone, undone)


@dataclass(slots=True)
class Reconciled:
    """What a run found, by name; each list is as short as its cause is rare."""

    adopted: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    set_aside: list[str] = field(default_factory=list)  # "name reason"
    captions: list[str] = field(default_factory=list)  # files that lay where an image's caption belongs
    ledger: str = ""  # the name under which a damaged ledger was set aside


class Reconciliation:
    """Brings ledger and folder to agree; an adopted file must be no duplicate, when asked. What it did: ``found``."""

    def __init__(
        self,
        folder: Folder,
        ledger: Ledger,
        plan: Plan,
        check_settings: CheckSettings,
        duplicates: Duplicates | None = None,
        *,
        stopped: Callable[[], bool] = lambda: False,
        looked: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> None:
        """``stopped`` ends it between two images; what is done by then stands, and the next one goes on there.

        ``looked`` is told the images that were looked at, and all that are to be.
        """
        self._stopped, self._looked = stopped, looked
        self._folder, self._ledger, self.plan = folder, ledger, plan
        self._check_settings, self._duplicates = check_settings, duplicates
        self.found = Reconciled()

    def by_name(self) -> None:
        """Reject what was deleted, adopt what has no row. Raises StorageError."""
        compared = Comparison.of(self._folder, self._ledger, len(self.plan))
        rows = self._ledger.states(compared.undone)
        self._reject_deleted(compared.gone)
        files = self._files(compared.undone)
        for number, (index, path) in enumerate(files.items(), 1):
            if self._stopped():
                return
            if _has_bytes(path):  # an empty file is none, and neither is a link to nowhere
                self._take_in(index, rows[index][1] if index in rows else 0, path)
            self._looked(number, len(files))

    def by_size(self, indices: Collection[int]) -> list[tuple[int, int]]:
        """Check anew what is `differing`; slot and next take of those that are done no more. Raises StorageError."""
        rows = self._ledger.states(sorted(indices))
        files = {index: path for index, path in self._files(rows).items() if _has_bytes(path)}
        self._reject_deleted([index for index in rows if index not in files])
        for number, (index, path) in enumerate(files.items(), 1):
            if self._stopped():
                return []
            self._take_in(index, rows[index][1] + 1, path)
            self._looked(number, len(files))
        states = self._ledger.states(sorted(rows))
        return [(index, take) for index, (state, take, _) in states.items() if state != "done"]

    def _files(self, indices: Iterable[int]) -> dict[int, Path]:
        """What lies in these slots, in order."""
        return dict(sorted(SlotFiles(self._folder).paths(set(indices)).items()))

    def _reject_deleted(self, indices: Sequence[int]) -> None:
        why, now = "the image was deleted", now_utc()
        rows = self._ledger.states(indices)
        self._ledger.turn_away(indices, why, now)
        self._ledger.put(Row(index, "rejected", take + 1, name, now, why) for index, (_, take, name) in rows.items())
        self.found.deleted += [name for _, _, name in rows.values()]

    def _take_in(self, index: int, take: int, path: Path) -> None:
        """Adopt a file as the image of its slot, or set it aside."""
        try:
            check_settings = self._check_settings.for_size(self.plan[index].size)
            finding = inspect(path, path.stem, check_settings, self._folder.ending)
            if self._duplicates:
                self._duplicates.demand_new(path.stem, index, path, finding.phashes)
        except BadImage as error:
            self.found.set_aside.append(f"{path.name} {error.reason}")
            self._folder.set_aside(path)
            at = now_utc()
            self._ledger.put([Row(index, "rejected", take, path.stem, at, error.reason)])
            self._ledger.reject([Rejection(index, take, error.reason, at)])
        else:
            self._ledger.put([_adopt(self.plan, index, take, Part.of(path), finding)])
            self.found.adopted.append(path.stem)
            if self._duplicates:
                self._duplicates.add(index, finding.phash)


def differing(folder: Folder, ledger: Path, count: int, stopped: Callable[[], bool] = lambda: False) -> list[int]:
    """The done ones of the first ``count`` slots whose files are gone, or have another size than their rows say.

    It only reads, and may do so beside a run; ``stopped`` ends it, with nothing found. Raises StorageError, and
    LedgerDamaged for any row that reggen never wrote.
    """
    rows = Ledger.read(ledger)
    if rows is None:
        return []
    done, left = array("q"), array("q")
    try:
        rows.verify()
        for index, size in rows.sizes(count):
            done.append(index)
            left.append(_UNKNOWN if size is None else size)
    finally:
        rows.close()
    for number, (index, size) in enumerate(SlotFiles(folder).sizes()):
        if number % _WINDOW == 0 and stopped():
            return []
        place = bisect_left(done, index)
        if place < len(done) and done[place] == index and (left[place] == size or (left[place] == _UNKNOWN and size)):
            left[place] = _SETTLED
    return [index for index, size in zip(done, left, strict=True) if size != _SETTLED]


def demand_filled(folder: Folder) -> None:
    """Raise LedgerDamaged for a ledger of 0 bytes beside images: its rows are lost. Nobody may be creating it now."""
    ledger = folder.state / LEDGER
    with suppress(OSError):
        emptied = ledger.is_file() and not ledger.stat().st_size
        if emptied and folder.images.is_dir() and SlotFiles(folder).count_beyond(0):
            raise LedgerDamaged(str(ledger), "opening the ledger", "it has 0 bytes, and there are images")


def _has_bytes(path: Path) -> bool:
    with suppress(OSError):
        return path.stat().st_size > 0
    return False


def missing(ledger: Ledger, plan: Plan) -> Iterator[PromptRequest]:
    """The orders still to be made, read from the ledger window by window while it is walked."""
    window = plan.aligned(_WINDOW)
    full = ledger.full(window)
    for start in range(0, len(plan), window):
        if start // window in full:
            continue
        stop = start + window
        yield from plan.requests(start, stop, ledger.takes(start, stop), ledger.done(start, stop))


def _adopt(plan: Plan, index: int, take: int, file: Part, finding: Inspection) -> Row:
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
        likeness=finding.phash_text,
        at=now_utc(),
    )
