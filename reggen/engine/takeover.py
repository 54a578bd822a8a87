"""Prompts of an earlier run that a server still holds: which of them this run would post anyway.

A run that was killed leaves prompts behind, done or queued. Their ids follow from the run, the slot, the take and
the post (`prompt_id`), so a later run of the same dataset knows its own; what it would ask for again, word for
word, it takes over instead of paying for it twice.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection

from reggen.comfy.listings import OrphanedPrompt
from reggen.dataset.ledger import Ledger
from reggen.errors import StorageError
from reggen.planning.plan import Plan, PromptRequest
from reggen.workflow.template import Template


def prompt_id(run_id: uuid.UUID, index: int, take: int, post: int) -> str:
    """The id of a prompt: the same facts give the same id, so whether it arrived can be asked later."""
    return str(uuid.uuid5(run_id, f"{index}/{take}/{post}"))


class Takeover:
    """What this run may take over. ``runs`` are the dataset's earlier ones."""

    def __init__(self, plan: Plan, ledger: Ledger, runs: Collection[uuid.UUID], template: Template) -> None:
        self._plan, self._ledger, self._runs, self._template = plan, ledger, runs, template

    def ours(self, orphan: OrphanedPrompt) -> bool:
        """Whether an earlier run of this dataset posted it."""
        return any(prompt_id(run, orphan.index, orphan.take, orphan.post) == orphan.id for run in self._runs)

    def wanted(self, orphan: OrphanedPrompt) -> PromptRequest | None:
        """The order that this prompt answers, if it is still missing and would be asked for in the same words."""
        if not 0 <= orphan.index < len(self._plan):
            return None
        start, stop = self._plan.window(orphan.index)
        try:
            takes, done = self._ledger.slots.takes(start, stop), self._ledger.slots.done(start, stop)
        except StorageError:
            return None  # it is made again at the worst; whoever reads what is missing ends the run for it
        for request in self._plan.requests(start, stop, takes, done):
            origin = start if request.batch > 1 and orphan.batch > 1 else orphan.index
            same = (origin, orphan.take, orphan.seed, orphan.batch)
            if (*request.origin, request.seed, request.batch) == same:
                return request if self._template.fingerprint(request) == orphan.recipe else None
        return None
