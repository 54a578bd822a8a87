"""The ledger of a dataset, read by a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reggen.dataset.ledger import Ledger


@contextmanager
def ledger_in(state: Path) -> Iterator[Ledger]:
    """The ledger in a dataset's state folder, open for reading. There has to be one."""
    ledger = Ledger.read(state)
    assert ledger is not None, f"there is no ledger in {state}"
    with ledger:
        yield ledger
