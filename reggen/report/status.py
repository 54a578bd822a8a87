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


def read_status(dataset: ClassDataset) -> DatasetStatus:
    """Read the state of a dataset. Raises LedgerDamaged."""
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


def format_status(status: DatasetStatus) -> str:
    """The state of a dataset, several lines."""
    head = f"{status.dataset}: {status.done:,} of {status.wanted:,} done, {status.missing:,} missing"
    return "\n".join([head, *_lines(status)])


def _lines(status: DatasetStatus) -> Iterator[str]:
    yield from _named("given up", [f"{name}: {cleaned(why or '')}" for name, why in status.given_up.items()])
    yield from _named("rejected", [f"{name}: {cleaned(why or '')}" for name, why in status.rejected.items()])
    yield from _named("deleted", [f"{name}: the next run makes another" for name in status.deleted])
    yield f"  being filled by {status.filled_by}" if status.filled_by else "  no run in progress"


def _named(label: str, lines: list[str]) -> Iterator[str]:
    yield from (f"  {label:<9} {line}" for line in lines[:_SHOWN])
    if len(lines) > _SHOWN:
        yield f"  {label:<9} {len(lines) - _SHOWN:,} more"
