"""Consequences of failures for the server they happened on: it rests, frees memory, is restarted or left out."""

from __future__ import annotations

import time
from collections.abc import Callable

from reggen import progress
from reggen.comfy.refusals import is_permanent
from reggen.comfy.session import ServerSession
from reggen.errors import ExecutionError, JobError, Problem, PromptRejected, SampleError, ServerError
from reggen.progress import RunEvent
from reggen.scheduler.circuit_breaker import ServerCare
from reggen.scheduler.fleet import Fleet
from reggen.scheduler.work_item import WorkItem

_HOPELESS = 3  # prompts refused before the first one was taken: the job is at fault, not the sample


class ServerFaults:
    """The faults of a run's servers. ``restart`` asks for another ComfyUI process, by server name, with a reason."""

    def __init__(
        self,
        fleet: Fleet,
        job_file: str,
        tell: Callable[[RunEvent], None],
        restart: Callable[[str, str], None],
        *,
        sick_rest: float,
    ) -> None:
        self._fleet, self._health = fleet, fleet.health
        self._job_file, self._tell, self._restart = job_file, tell, restart
        self._sick_rest = sick_rest
        self._refusals: list[PromptRejected] = []
        self._last: dict[str, str] = {}  # by server: its last failure, until something goes well
        self._left_out: dict[str, str] = {}  # by server that is given nothing more in this run: the reason

    def reasons(self, sessions: dict[str, str]) -> dict[str, str]:
        """The reason that each server cannot be used; ``sessions`` has what the sessions say of theirs."""
        return {**self._last, **sessions, **self._left_out}

    def forgive(self, server: str) -> None:
        """Forget the last failure of a server: an image came from it."""
        self._last.pop(server, None)

    async def judge(self, session: ServerSession, item: WorkItem, error: ServerError | SampleError) -> None:
        """Draw the consequences of a failed prompt for its server."""
        told = f"{error.doing}: {error.with_remedy}" if isinstance(error, ServerError) else str(error)
        self._last[session.name] = told
        match error:
            case ServerError():
                await self._judge_post(session, item, error)
            case PromptRejected():
                self._judge_rejection(session, error)
            case ExecutionError(out_of_memory=True):
                if session.name in item.tries.freed and item.request.batch > 1:
                    self._fleet.loads[session.name].overflowed(item.request.batch)
                await self._is_sick(session)
            case ExecutionError() if self._raised(session.name, item):
                why = "every prompt raises there while others make images, so it rests; see its console"
                self._tell(progress.Trouble(time.monotonic(), session.name, f"{session.name}: {why}: {error}"))
            case _:
                self._health.prompt_ended(session.name)

    async def made_only_bad_images(self, session: ServerSession, error: SampleError) -> None:
        """Note a prompt that ended well and has only black, flat or noisy images."""
        self._last[session.name] = f"its last images are no good: {error}"
        await self._is_sick(session)

    def kept_images(self, server: str, error: ServerError) -> None:
        """Note that a server did not hand out images it had made: it rests."""
        self._last[server] = str(error)
        self._health.failed(server, time.monotonic(), error.retry_after)

    def demand_possible_job(self, *, at_end: bool = False) -> None:
        """Raise JobError when all servers rejected the first prompts of this job and none took one.

        ``at_end``: no more prompts will come, so fewer rejections than it otherwise takes to be sure are enough.
        """
        if not self._refusals or not self._health.took_none:
            return
        able = self._health.candidates(time.monotonic())
        everywhere = {refusal.server for refusal in self._refusals} >= able
        if at_end or (everywhere and len(self._refusals) >= _HOPELESS):
            last = self._refusals[-1]
            raise JobError(self._job_file, tuple(Problem(last.server, reason) for reason in last.reasons))

    async def _judge_post(self, session: ServerSession, item: WorkItem, error: ServerError) -> None:
        """Let the server rest; leave it out where it answers polls, and refuses post after post for good."""
        if not is_permanent(error) or not await session.check_polling():
            self._health.failed(session.name, time.monotonic(), error.retry_after)
        elif self._health.post_refused(session.name, text_of(item)):
            self._leave_out(session.name, f"{error.doing}: {error.with_remedy}")

    def _judge_rejection(self, session: ServerSession, error: PromptRejected) -> None:
        if self._health.prompt_rejected(session.name):
            self._leave_out(session.name, f"it keeps rejecting prompts that others take: {error}")
        if self._health.took_none:
            self._refusals.append(error)

    def _raised(self, server: str, item: WorkItem) -> bool:
        text, before = text_of(item), item.tries.raised
        return self._health.node_raised(server, time.monotonic(), self._sick_rest, text=text, before=before)

    async def _is_sick(self, session: ServerSession) -> None:
        """Count one more bad prompt in a row, and do what that asks for."""
        care = self._health.servers[session.name].breaker.prompt_was_bad(time.monotonic(), self._sick_rest)
        if care is not ServerCare.NOTHING:
            await session.unload_models()
        if care is ServerCare.RESTART:
            why = "its images are bad, one after another, and freeing its memory changes nothing"
            self._restart(session.name, why)

    def _leave_out(self, server: str, why: str) -> None:
        self._left_out[server] = why
        self._tell(progress.Trouble(time.monotonic(), server, f"{server} is left out of this run: {why}"))


def text_of(item: WorkItem) -> str:
    """The positive prompt of a work item."""
    return item.request.samples[0].positive or ""
