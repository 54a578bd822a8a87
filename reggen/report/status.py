"""The state of a dataset, read from its ledger, while a run fills it or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from reggen.comfy.sanitize import cleaned
from reggen.dataset.folder import Folder
from reggen.dataset.ledger import Ledger, refuse_emptied
from reggen.dataset.lock import lock_holder
from reggen.dataset.reconcile import Comparison
from reggen.errors import Problem, StorageError
from reggen.job.dataset import ClassDataset

_SHOWN = 20  # names of each kind that are listed
_QUICKLY_VERIFIED = 32 << 20  # bytes of a ledger of some 40,000 images, which takes a fifth of a second


@dataclass(frozen=True, slots=True)
class DatasetStatus:
    """The state of a dataset: counts of slots, names with reasons, and the process that is filling it, if one is.

    ``outdated`` images were made with other settings than the job has now; they count as done.
    ``given_up`` and ``rejected`` map names to reasons; ``deleted`` are names of images that are gone from the folder.
    """

    dataset: str
    wanted: int
    done: int
    missing: int
    given_up: Mapping[str, str | None] = field(default_factory=dict)
    rejected: Mapping[str, str | None] = field(default_factory=dict)
    deleted: tuple[str, ...] = ()
    filled_by: str | None = None
    outdated: int = 0


def read_status(dataset: ClassDataset, recipe: str = "") -> DatasetStatus:
    """Read the state of a dataset; images of another ``recipe`` are counted as outdated. Raises LedgerDamaged."""
    folder, count = Folder(dataset), dataset.count
    filled_by = lock_holder(folder.state)
    if not filled_by:
        refuse_emptied(folder)
    ledger = Ledger.read(folder.state)
    if ledger is None:
        return DatasetStatus(str(folder.images), count, 0, count, filled_by=filled_by)
    with ledger:
        _verify(ledger)
        compared = Comparison.of(folder, ledger, count)
        return DatasetStatus(
            dataset=str(folder.images),
            wanted=count,
            done=compared.present,
            missing=count - compared.present,
            given_up={row.name: row.reason for row in ledger.slots.walk("given_up", stop=count)},
            rejected={row.name: row.reason for row in ledger.slots.walk("rejected", stop=count)},
            deleted=tuple(ledger.slots.names(compared.deleted)),
            filled_by=filled_by,
            outdated=sum(map(len, ledger.slots.other_recipes(recipe, count))) if recipe else 0,
        )


def _verify(ledger: Ledger) -> None:
    """Verify a ledger that is small; a large one is verified by a run, at its end."""
    if ledger.file_size <= _QUICKLY_VERIFIED:
        ledger.verify()


def count_missing(dataset: ClassDataset) -> int:
    """The number of images that a dataset lacks by its ledger alone, in no time; all where it has no ledger."""
    count = dataset.count
    with suppress(StorageError):  # the run of this dataset will report it
        if ledger := Ledger.read(dataset.state):
            with ledger:
                return count - ledger.slots.counts(count).get("done", 0)
    return count


def read_conflicts(state: Path, facts: Mapping[str, object]) -> tuple[Problem, ...]:
    """Lasting facts of a job that differ from those its dataset was begun with. Raises LedgerDamaged."""
    ledger = Ledger.read(state)
    if ledger is None:
        return ()
    with ledger:
        _verify(ledger)
        return ledger.facts.conflicts(facts)


def outdated_lines(status: DatasetStatus, redo: str) -> Iterator[str]:
    """Lines on images that were made with other settings, with the command that has them made again, if any."""
    if status.outdated:
        were = "image was" if status.outdated == 1 else "images were"
        yield f"  outdated     {status.outdated:,} {were} made with other settings (prompt, size, ...) and kept" + (
            "; to have new ones made:" if redo else ""
        )
        if redo:
            yield f"    {redo}"


def format_status(status: DatasetStatus, redo: str = "") -> str:
    """The state of a dataset, several lines; ``redo`` is the command that has outdated images made again."""
    head = f"{status.dataset}: {status.done:,} of {status.wanted:,} done, {status.missing:,} missing"
    return "\n".join([head, *outdated_lines(status, redo), *_lines(status)])


def _lines(status: DatasetStatus) -> Iterator[str]:
    yield from _named("given up", [f"{name}: {cleaned(why or '')}" for name, why in status.given_up.items()])
    yield from _named("rejected", [f"{name}: {cleaned(why or '')}" for name, why in status.rejected.items()])
    yield from _named("deleted", [f"{name}: the next run makes another" for name in status.deleted])
    yield f"  being filled by {status.filled_by}" if status.filled_by else "  no run in progress"


def _named(label: str, lines: list[str]) -> Iterator[str]:
    yield from (f"  {label:<9} {line}" for line in lines[:_SHOWN])
    if len(lines) > _SHOWN:
        yield f"  {label:<9} {len(lines) - _SHOWN:,} more"
