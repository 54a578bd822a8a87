"""Prompts that an earlier run has left on the servers: recognized by their ids, and taken over where still wanted.

A run that was killed leaves prompts behind, done or queued. Their ids follow from the run, the slot, the take and the
post (`prompt_id`), so a later run of the same dataset recognizes them; those that it would post in the same words it
takes over instead of paying for them twice.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from contextlib import suppress

from reggen.comfy.listings import OrphanedPrompt
from reggen.dataset.ledger import Ledger
from reggen.engine.threads import Threads
from reggen.errors import StorageError
from reggen.planning.plan import Plan, PromptRequest
from reggen.workflow.template import Template


def prompt_id(run_id: uuid.UUID, index: int, take: int, post: int) -> str:
    """The id of a prompt: the same facts give the same id, so whether it arrived can be asked later."""
    return str(uuid.uuid5(run_id, f"{index}/{take}/{post}"))


class Takeover:
    """The prompts that this run may take over. ``runs`` are the dataset's earlier ones.

    ``ledger`` is read in ``thread`` only.
    """

    def __init__(
        self, plan: Plan, ledger: Ledger, thread: Threads, runs: Collection[uuid.UUID], template: Template
    ) -> None:
        self._plan, self._ledger, self._thread = plan, ledger, thread
        self._runs, self._template = runs, template
        self._requests: dict[str, PromptRequest] = {}  # by the id of the prompt that answers them

    async def recognize(self, orphans: Sequence[OrphanedPrompt]) -> tuple[OrphanedPrompt, ...]:
        """The prompts that an earlier run of this dataset posted; `request_for` then knows which are still wanted."""
        ours = tuple(orphan for orphan in orphans if self._is_ours(orphan))
        if ours:
            with suppress(StorageError):  # made again at the worst; reading what is missing ends the run for it
                self._requests |= await self._thread.do(lambda: self._wanted(ours))
        return ours

    def request_for(self, orphan: OrphanedPrompt) -> PromptRequest | None:
        """The request that a recognized prompt answers; None where nobody wants it any more."""
        return self._requests.get(orphan.id)

    def _is_ours(self, orphan: OrphanedPrompt) -> bool:
        return any(prompt_id(run, orphan.index, orphan.take, orphan.post) == orphan.id for run in self._runs)

    def _wanted(self, orphans: Sequence[OrphanedPrompt]) -> dict[str, PromptRequest]:
        """The requests that these prompts answer, by prompt id. Blocking."""
        found = ((orphan.id, self._find(orphan)) for orphan in orphans)
        return {name: request for name, request in found if request}

    def _find(self, orphan: OrphanedPrompt) -> PromptRequest | None:
        """The request that a prompt answers, if it is still missing and would be made in the same words. Blocking."""
        if not 0 <= orphan.index < len(self._plan):
            return None
        start, stop = self._plan.window(orphan.index)
        takes, done = self._ledger.slots.takes(start, stop), self._ledger.slots.done(start, stop)
        for request in self._plan.requests(start, stop, takes, done):
            origin = start if request.batch > 1 and orphan.batch > 1 else orphan.index
            same = (origin, orphan.take, orphan.seed, orphan.batch)
            if (*request.origin, request.seed, request.batch) == same:
                return request if self._template.fingerprint(request) == orphan.recipe else None
        return None
