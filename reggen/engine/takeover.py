"""Prompts of an earlier run that a server still holds: which of them this run would post anyway.

A run that was killed leaves prompts behind, done or queued. Their ids follow from the run, the slot, the take and
the post (`prompt_id`), so a later run of the same dataset knows its own; what it would ask for again, word for
word, it takes over instead of paying for it twice.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection

from reggen.comfy.protocol import Trace
from reggen.dataset.ledger import Ledger
from reggen.errors import StorageError
from reggen.plan.plan import Order, Plan
from reggen.workflow.template import Template


def prompt_id(run_id: uuid.UUID, index: int, take: int, post: int) -> str:
    """The id of a prompt: the same facts give the same id, so whether it arrived can be asked later."""
    return str(uuid.uuid5(run_id, f"{index}/{take}/{post}"))


class Heritage:
    """What this run may take over. ``runs`` are the dataset's earlier ones."""

    def __init__(self, plan: Plan, ledger: Ledger, runs: Collection[uuid.UUID], template: Template) -> None:
        self._plan, self._ledger, self._runs, self._template = plan, ledger, runs, template

    def ours(self, trace: Trace) -> bool:
        """Whether an earlier run of this dataset posted it."""
        return any(prompt_id(run, trace.index, trace.take, trace.post) == trace.id for run in self._runs)

    def wanted(self, trace: Trace) -> Order | None:
        """The order that this prompt answers, if it is still missing and would be asked for in the same words."""
        if not 0 <= trace.index < len(self._plan):
            return None
        start, stop = self._plan.window(trace.index)
        try:
            takes, done = self._ledger.takes(start, stop), self._ledger.done(start, stop)
        except StorageError:
            return None  # it is made again at the worst; whoever reads what is missing ends the run for it
        for order in self._plan.orders(start, stop, takes, done):
            origin = start if order.batch > 1 and trace.batch > 1 else trace.index
            same = (origin, trace.take, trace.seed, trace.batch)
            if (*order.origin, order.seed, order.batch) == same:
                return order if self._template.fingerprint(order) == trace.recipe else None
        return None
