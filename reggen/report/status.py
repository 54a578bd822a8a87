"""How far a dataset is, read from its ledger, beside a run or without one."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from reggen.comfy.sanitize import cleaned
from reggen.dataset.folder import Folder
from reggen.dataset.ledger import Ledger, refuse_emptied
from reggen.dataset.lock import lock_holder
from reggen.dataset.reconcile import Comparison
from reggen.errors import Problem, StorageError
from reggen.job.dataset import ClassDataset

_SHOWN = 20
_SMALL = 32 << 20  # bytes of a ledger of some 40,000 images: a fifth of a second


def state_of(dataset: ClassDataset) -> dict[str, Any]:
    """Counts of slots, the given up and rejected ones by name, and who is filling it now. Raises LedgerDamaged."""
    folder, count = Folder(dataset), dataset.count
    state: dict[str, Any] = {
        "dataset": str(folder.images),
        "wanted": count,
        "done": 0,
        "missing": count,
        "given_up": {},
        "rejected": {},
        "deleted": [],
        "filled_by": lock_holder(folder.state),
    }
    if not state["filled_by"]:
        refuse_emptied(folder)
    ledger = Ledger.read(folder.state)
    if ledger is None:
        return state
    with ledger:
        _verify(ledger)
        compared = Comparison.of(folder, ledger, count)
        state["done"] = compared.present
        state["missing"] = count - compared.present
        state["deleted"] = ledger.slots.names(compared.deleted)
        for kind in ("given_up", "rejected"):
            state[kind] = {row.name: row.reason for row in ledger.slots.walk(kind, stop=count)}
    return state


def _verify(ledger: Ledger) -> None:
    """Look at all of it where that takes no time to speak of; of a large one a run does, when its rest is made."""
    if ledger.file_size <= _SMALL:
        ledger.verify()


def missing(dataset: ClassDataset) -> int:
    """How many images a dataset lacks by its ledger alone, which takes no time; all of them where it has none."""
    count = dataset.count
    with suppress(StorageError):  # it is told when its turn has come
        if ledger := Ledger.read(dataset.state):
            with ledger:
                return count - ledger.slots.counts(count).get("done", 0)
    return count


def conflicts(folder: Folder, facts: dict[str, object]) -> tuple[Problem, ...]:
    """Which of a job's lasting facts differ from what the dataset was begun with."""
    ledger = Ledger.read(folder.state)
    if ledger is None:
        return ()
    with ledger:
        _verify(ledger)
        return ledger.facts.conflicts(facts)


def words(state: dict[str, Any]) -> str:
    """The state for people."""
    lines = [f"{state['dataset']}: {state['done']:,} of {state['wanted']:,} done, {state['missing']:,} missing"]
    for kind, label in (("given_up", "given up"), ("rejected", "rejected")):
        named = list(state[kind].items())
        lines.extend(f"  {label:<9} {name}: {cleaned(reason or '')}" for name, reason in named[:_SHOWN])
        if len(named) > _SHOWN:
            lines.append(f"  {label:<9} {len(named) - _SHOWN} more")
    lines.extend(f"  {'deleted':<9} {name}: the next run makes another" for name in state["deleted"][:_SHOWN])
    filled_by = state["filled_by"]
    lines.append(f"  being filled now by {filled_by}" if filled_by else "  nobody is filling it now")
    return "\n".join(lines)
