"""One server, kept in conversation: the socket and its reconnects, the looks, and prompts from post to end.

`listen` and `watch` run for as long as the link is used, as tasks of whoever owns it; `execute` is
called once for each prompt.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from reggen.comfy.client import Client, EventSocket
from reggen.comfy.disconnects import Disconnects
from reggen.comfy.frames import SIGNS_OF_WORK, Ended, NodeDone, Preview, Progressed, Unknown, read_frame
from reggen.comfy.history import ImageRef, Outcome, Success
from reggen.comfy.listings import OrphanedPrompt, Queue
from reggen.comfy.refusals import Refusals, is_of_the_front
from reggen.comfy.submission import submission
from reggen.comfy.tracker import PromptTracker, Timings
from reggen.comfy.watchdog import LOOKS, WorkerVerdict, WorkerWatchdog
from reggen.errors import HttpStatusError, InvalidResponse, NotDownloaded, PromptLost, ServerError, Unreachable

_RECONNECT = (0.2, 30.0)  # seconds: the first pause and the longest
_LASTING = 5.0  # a socket that lived so long was a good one
_ASKING = (0.2, 1.0, 0.0)  # seconds after each failure to ask for prompts of an earlier run, before it is left
_PUTS_OFF = (
    NodeDone,
    Progressed,
    Preview,
    Unknown,
)  # signs of life: by far the most, and they make nothing due
_READING, _VIEWING = "reading the history", "downloading an image"
_UNREAD = 6  # looks in a row at one prompt's history, before just that one is not to be had
_TOGETHER = 32  # prompts that are taken out of the history at a time
_DOUBTS = 4  # looks for a prompt whose post had no answer, of a server that is there, before nobody knows


Recognize = Callable[[Sequence[OrphanedPrompt]], Awaitable[tuple[OrphanedPrompt, ...]]]
"""Tells an earlier run's prompts from those of other people."""


class ServerSession:
    """A conversation with one server.

    ``up`` says whether prompts can be posted now; ``on_change`` is called with the link whenever that may have
    changed, and ``why`` then tells what is wrong, if anything is. ``ours`` recognizes prompts that an earlier run has
    left on the server from other people's; they are in ``left_behind`` when the link is up for the first time, and
    whoever wants one says `take_over` in ``on_change``. The others are taken out of the server's queue.
    """

    def __init__(
        self,
        client: Client,
        *,
        timings: Timings | None = None,
        on_change: Callable[[ServerSession], None] = lambda _session: None,
        ours: Recognize | None = None,
        keeps_history: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.client, self.name = client, client.name
        self.up, self.why = False, ""
        self.away_since: float | None = clock()
        self._timings = timings or Timings()
        self._tracker = PromptTracker(client.name, self._timings)
        self.on_change, self._clock = on_change, clock
        self._client_id = ""
        self._socket: EventSocket | None = None
        self._endings: dict[str, asyncio.Future[Outcome]] = {}
        self._blocked: dict[str, str] = {}  # what a node said that let nothing through: only a frame tells
        self._orphans: set[str] = set()  # posted, given up on, perhaps still queued there
        self._ours = ours
        self._keeps_history = keeps_history
        self._in_doubt: set[str] = set()  # posted, and nobody says yet whether they arrived
        self._over: list[str] = []  # prompts whose history entries nobody needs
        self._named: dict[str, str] = {}  # our ids of ended prompts to those that the server chose
        self.left_behind: tuple[OrphanedPrompt, ...] = ()
        self._worker = WorkerWatchdog(self._timings)
        self._refusals = Refusals(self._timings)
        self._withheld: ImageRef | None = None  # the picture that was refused, where that is why it is away
        self._handed_out: ImageRef | None = None  # the last one that was not
        self._unread: Counter[str] = Counter()  # looks in a row at the history of one prompt that went wrong
        self._spoilt: ImageRef | None = None  # one that was refused while others were not
        self._cuts = Disconnects()
        self._wake, self._sleeps_until = asyncio.Event(), math.inf
        self._back = asyncio.Event()

    @property
    def worker_is_dead(self) -> bool:
        """The server accepts prompts and does none of them; only a restart helps."""
        return self._worker.resting and self._worker.dead

    @property
    def refuses(self) -> bool:
        """It is away since it answers with something else than what is needed: it did not die."""
        return bool(self._refusals.why)

    @property
    def in_flight(self) -> int:
        """Prompts of ours that the server holds, or may hold."""
        return len(self._tracker.in_flight) + len(self._in_doubt)

    # ---- prompts

    async def execute(self, graph: Mapping[str, Any], prompt_id: str, note: Mapping[str, Any]) -> Outcome:
        """Post a prompt and follow it to its end. Raises PromptRejected; ServerError when it could not be posted."""
        known_as = prompt_id
        self._tracker.posting(prompt_id, self._clock())
        try:
            known_as = await self._post(submission(graph, self._client_id, prompt_id, note))
            self._expect(known_as)
            self._tracker.accepted(prompt_id, known_as, self._clock())
            return await self._ending(known_as, prompt_id)
        except (ServerError, asyncio.CancelledError) as error:
            if not (isinstance(error, Unreachable) and not error.may_have_arrived):
                self._orphans.add(known_as)
            raise
        finally:
            self._tracker.forget(prompt_id)
            self._tracker.forget(known_as)

    async def answers(self) -> bool:
        """After a wrong answer: see whether looks are answered, for a prompt that nobody knows. If not, it is away."""
        if self._refusals.why:
            return False
        try:
            await self.client.check_polling()
        except ServerError as error:
            if isinstance(error, Unreachable):
                self._is_away(error.what)
            else:
                self._is_refused(error)
            return False
        return True

    def _is_refused(self, error: ServerError) -> None:
        self._refusals.refuse(error, self._clock())
        self._is_away(self._refusals.why)

    def withholds(self, picture: ImageRef, error: ServerError) -> bool:
        """A picture was not handed out. True when the server is away for that: then until it hands out this one.

        Or the last one that it did hand out: then just this one is refused, and is no reason to be away.
        """
        if picture == self._spoilt or not is_of_the_front(error) or not self._refusals.wrong(error):
            return False
        self._withheld = picture
        self._is_refused(error)
        return True

    def hands_out(self, picture: ImageRef) -> None:
        """A picture is being handed out."""
        self._handed_out = picture
        self._refusals.right(_VIEWING)

    async def free(self) -> None:
        """Ask the server to free its memory; one that does not answer is found out otherwise."""
        self._worker.freed(self._clock())
        with suppress(ServerError):
            await self.client.unload_models()

    def take_over(self, orphan: OrphanedPrompt) -> None:
        """A prompt in ``left_behind`` is ours from here on; `resume` says how it ends."""
        self._orphans.discard(orphan.known_as)
        self._tracker.took_over(orphan.known_as, self._clock())
        self._expect(orphan.known_as)

    async def resume(self, orphan: OrphanedPrompt) -> Outcome:
        """Follow a prompt that was taken over to its end."""
        try:
            return await self._ending(orphan.known_as, orphan.id)
        except asyncio.CancelledError:
            self._orphans.add(orphan.known_as)
            raise
        finally:
            self._tracker.forget(orphan.known_as)

    async def is_kept(self, prompt_id: str, *, whole: bool) -> None:
        """Nothing more is asked about a prompt that ended well. With ``whole``, its pictures are all on the disk here.

        Then its history entry is dropped, now and then some together, unless this server's history is to be kept.
        """
        known_as = self._named.pop(prompt_id, prompt_id)
        if self._keeps_history or not whole:
            return
        self._over.append(known_as)
        if len(self._over) >= _TOGETHER:
            await self._clear_up()

    async def _clear_up(self) -> None:
        over, self._over = self._over, []
        if over:
            with suppress(ServerError):  # it is a courtesy
                await self.client.forget(over)

    def _expect(self, known_as: str) -> None:
        self._endings[known_as] = asyncio.get_running_loop().create_future()
        self._wake.set()

    async def _ending(self, known_as: str, prompt_id: str) -> Outcome:
        """Wait for the look that settles a prompt."""
        try:
            outcome = await self._endings[known_as]
        finally:
            self._endings.pop(known_as, None)
            blocked = self._blocked.pop(known_as, "")
        if isinstance(outcome, Success) and blocked:
            outcome = replace(outcome, blocked=blocked)
        if isinstance(outcome, Success) and known_as != prompt_id and not self._keeps_history:
            self._named[prompt_id] = known_as
        return outcome

    async def _post(self, body: Mapping[str, Any]) -> str:
        """Post, and after an answer that leaves it open, look before anybody posts again."""
        try:
            return (await self.client.post(body)).prompt_id
        except ServerError as error:
            refused = isinstance(error, HttpStatusError) and error.status < 500
            if refused or (isinstance(error, Unreachable) and not error.may_have_arrived):
                raise
            if known_as := await self._find(body["prompt_id"]):
                return known_as
            raise

    async def _find(self, prompt_id: str) -> str | None:
        """The id of a prompt there if it arrived, else None. Raises Unreachable with may_have_arrived if nobody knows.

        A server that was frozen executes what it was sent when it thaws, so one that is away is waited for, until
        `abandon` ends that as it does for every prompt in flight.
        """
        self._expect(prompt_id)
        self._in_doubt.add(prompt_id)
        ending, looks, was_away, what = self._endings[prompt_id], 0, False, "no answer"
        try:
            while looks < _DOUBTS and not ending.done():
                there = self.up
                try:
                    known_as = await self.client.find(prompt_id)
                    self._came_back()
                    if ending.done():
                        break  # let go of just now: it is taken from the queue, if it is there
                    if known_as or not was_away:
                        return known_as
                    looks += 2  # what was sent may come after what is asked
                    if looks >= _DOUBTS:
                        return None
                except ServerError as error:
                    what, looks = error.what, looks + there
                    if isinstance(error, Unreachable):
                        was_away = True
                        self._missed(what)
                await asyncio.wait(
                    [ending], timeout=self._timings.blind if was_away or not self.up else 0.5 * 2 ** max(0, looks - 1)
                )
        finally:
            self._in_doubt.discard(prompt_id)
            self._endings.pop(prompt_id, None)
        raise Unreachable(self.name, "finding out whether a prompt arrived", what, may_have_arrived=True)

    def _missed(self, what: str) -> None:
        """A look for a prompt in doubt had no answer: whoever gives prompts away is to know that one is at stake."""
        if self.up:
            self._is_away(what)
        else:
            self.on_change(self)

    def abandon(self, why: str, *, died: bool = False) -> None:
        """Let go of every prompt in flight: each ends as PromptLost here, and is taken from the queue when it can be.

        ``died``: the server may have died over one of them.
        """
        for prompt_id, ending in list(self._endings.items()):
            self._orphans.add(prompt_id)
            self._tracker.forget(prompt_id)
            if not ending.done():
                ending.set_result(PromptLost(self.name, why, died=died))

    async def withdraw(self) -> None:
        """Take our own prompts out of the server's queue by id, and interrupt the running one if that is safe."""
        mine = {*self._tracker.in_flight, *self._orphans}
        if mine:
            await self.client.take_back(mine)
            self._orphans.clear()
        await self._clear_up()

    # ---- the socket

    async def listen(self) -> None:
        """Keep a socket open, each time under a new client id; without one, see whether the server lives."""
        pause = _RECONNECT[0]
        while True:
            opened = self._clock()
            try:
                await self._hear()
                why = "the server closed the connection"
            except ServerError as error:
                why = error.what
            if self._socket is not None and not self._tracker.strikes:
                self._cuts.cut(self._clock(), self._clock() - opened)
            else:
                self._cuts.failed(why)
            self._socket = None
            self._tracker.disconnected()
            self._wake.set()
            await self._judge()
            if self._clock() - opened > _LASTING and not self._tracker.strikes:
                pause = _RECONNECT[0]
            with suppress(TimeoutError):
                async with asyncio.timeout(pause * random.uniform(0.5, 1.0)):
                    await self._back.wait()  # a look found the server again: no reason to wait longer
            self._back.clear()
            pause = min(_RECONNECT[1], pause * 2)

    async def _hear(self) -> None:
        client_id = uuid.uuid4().hex
        async with self.client.connect(client_id) as socket:
            if not self.up:
                await self._demand_an_answer()
            self._client_id = client_id
            self._tracker.connected(self._clock())
            self._wake.set()
            self._cuts.opened()
            await self._greet(self._cuts.why(self._clock()))
            self._socket = socket
            async for frame in socket:  # dispatches only: nothing in here may wait
                event = read_frame(frame)
                self._tracker.frame(event, self._clock())
                if isinstance(event, Ended) and event.blocked and event.prompt_id in self._endings:
                    self._blocked[event.prompt_id] = self.client.redactor.text(event.blocked)
                if isinstance(event, SIGNS_OF_WORK):
                    self._worker.works()
                if not isinstance(event, _PUTS_OFF) and self._tracker.wake_at() < self._sleeps_until:
                    self._wake.set()

    async def _demand_an_answer(self) -> None:
        """Raise Unreachable unless the server answers HTTP: a socket can be opened to one that takes no prompt."""
        with suppress(HttpStatusError, InvalidResponse):  # these are answers; `Refusals` counts them
            await self.client.queue_depth()

    async def _judge(self) -> None:
        """No socket: a server that answers HTTP can still work, by looking."""
        try:
            await self.client.queue_depth()
        except ServerError as error:
            if isinstance(error, Unreachable) and not error.may_have_arrived:
                self._worker.replaced()  # nobody listens: the process is gone, and the next one has a new worker
            self._is_away(error.with_remedy)
        else:
            self._client_id = self._client_id or uuid.uuid4().hex
            await self._greet(self._cuts.why(self._clock()))

    async def _greet(self, why: str) -> None:
        """The server is there: before it is given work, what an earlier run has left on it is known."""
        if self._refusals.why:
            return
        if self._ours is not None:
            self.left_behind = await self._ask(self._ours)
            self._orphans |= {orphan.known_as for orphan in self.left_behind}
            self._ours = None
        else:
            await self._sweep()
        self._is_up(why)
        self.left_behind = ()
        await self._sweep()

    async def _ask(self, ours: Recognize) -> tuple[OrphanedPrompt, ...]:
        for pause in _ASKING:
            try:
                return await ours(await self.client.orphans())
            except ServerError:
                await asyncio.sleep(pause)
        return ()  # it takes prompts all the same; at worst a few are paid for twice

    def _is_away(self, why: str) -> None:
        self.why = why
        self._worker.out_of_sight(self._clock())
        if self.up or self.away_since is None:
            self.up, self.away_since = False, self._clock()
            self._wake.set()
            self.on_change(self)

    def _is_up(self, why: str) -> None:
        if self._worker.rests_until > self._clock() or self._refusals.why:
            return
        changed = not self.up or why != self.why
        self.up, self.why, self.away_since = True, why, None
        if changed:
            self.on_change(self)

    async def _sweep(self) -> None:
        """Take back what was left behind when the server went away."""
        left = self._orphans - set(self._endings) - set(self._tracker.in_flight)
        if left:
            with suppress(ServerError):
                await self.client.take_back(left)
                self._orphans -= left

    # ---- the looks

    async def watch(self) -> None:
        """Look whenever the follower says so, and replace a socket that hears nothing."""
        while True:
            await self._pause()
            now = self._clock()
            if self._worker.rests_until <= now and self._worker.resting:
                self._worker.resting = False
                await self._sweep()
                self._is_up(self._cuts.why(now))
            if self.up and self.why and self._socket:
                self._is_up(self._cuts.why(now))  # what was cut again and again has held for a while
            if self._socket and self._tracker.deaf(now):
                await self._socket.close()
            looks = self._tracker.due(now)
            if self._is_in_doubt and (self._refusals.why or not looks):
                await self._ask_again()
            if self._refusals.why:
                continue
            if looks.full:
                await self._look_full(looks.full)
            await self._look_at(looks.quick, queued=None)

    @property
    def _is_in_doubt(self) -> bool:
        """A look went unanswered or was refused while the socket stayed open: nobody else will tell when it is back."""
        alone = self._socket is not None or bool(self._refusals.why)
        return alone and not self.up and not self._worker.resting

    async def _ask_for_what_was_refused(self) -> None:
        """Raises ServerError while it still is."""
        if self._withheld is None:
            await self.client.check_polling()
            return
        try:
            await self._view(self._withheld)
        except ServerError as error:
            if is_of_the_front(error):
                if self._handed_out is None:
                    raise
                await self._view(self._handed_out)
                self._spoilt = self._withheld
        self._withheld = None

    async def _view(self, picture: ImageRef) -> None:
        async with self.client.view(picture):
            pass

    async def _ask_again(self) -> None:
        """See whether it is back: one that refused something is, when it does not any more."""
        if not self._refusals.why:
            with suppress(ServerError):
                await self.client.queue_depth()
                self._came_back()
            return
        if self._refusals.ask_at > self._clock():
            return
        try:
            await self._ask_for_what_was_refused()
        except Unreachable as error:
            self._refusals.healed()  # it does not refuse, it is gone: that heals in another way
            self._is_away(error.what)
        except ServerError as error:
            self._is_refused(error)
        else:
            self._refusals.healed()
            await self._sweep()
            self._came_back()

    def _came_back(self) -> None:
        """The server answered."""
        if not self.up:
            self._is_up(self._cuts.why(self._clock()) if self._socket else "no events; looking instead")
            self._back.set()

    async def _pause(self) -> None:
        rest = self._worker.rests_until if self._worker.resting else math.inf
        if self._refusals.why:
            self._sleeps_until = self._refusals.ask_at if self._is_in_doubt else rest
        else:
            again = self._clock() + self._timings.blind if self._is_in_doubt else math.inf
            self._sleeps_until = min(self._tracker.wake_at(), rest, again)
        rest = self._sleeps_until - self._clock()
        with suppress(TimeoutError):
            async with asyncio.timeout(None if math.isinf(rest) else max(0.0, rest)):
                await self._wake.wait()
        self._wake.clear()

    async def _look_full(self, prompt_ids: tuple[str, ...]) -> None:
        """The queue first, the history second: a prompt cannot slip between the two."""
        try:
            queue = await self.client.queue()
        except ServerError as error:
            for prompt_id in prompt_ids:
                self._tracker.look_failed(prompt_id, self._clock())
            if isinstance(error, Unreachable):
                self._is_away(error.what)
            elif self._refusals.wrong(error):
                await self.answers()
            return
        self._refusals.right("reading the queue")
        self._came_back()
        here = {*queue.running, *queue.pending}
        for prompt_id in prompt_ids:
            if prompt_id in here:
                self._tracker.looked(prompt_id, None, queued=True, now=self._clock())
        await self._examine_worker(queue)
        await self._look_at([prompt_id for prompt_id in prompt_ids if prompt_id not in here], queued=False)

    async def _examine_worker(self, queue: Queue) -> None:
        """A worker thread that died leaves a server that answers everything and does nothing."""
        now = self._clock()
        ours = [prompt_id for prompt_id in queue.running if prompt_id in self._endings]
        heard = max((self._tracker.heard(prompt_id) for prompt_id in ours), default=None)
        match self._worker.seen(queue, heard, now):
            case WorkerVerdict.DEAD:
                why = "it accepts prompts and does none of them: its worker is dead; restart that ComfyUI"
                self._is_away(why)
                self.abandon(why)
                self._wake.set()
            case WorkerVerdict.BLOCKED:
                why = "somebody else's prompt has been running there for very long, and ours wait behind it"
                self._is_away(why)
                self.abandon(why)
                self._wake.set()
            case WorkerVerdict.LOOK_AGAIN:
                self._tracker.look_again(now + self._timings.gap / LOOKS)
            case WorkerVerdict.INTERRUPT:
                self._tracker.look_again(now + self._timings.mercy)
                with suppress(ServerError):
                    if await self.client.aims_interrupts():
                        await self.client.interrupt(ours[0])

    async def _look_at(self, prompt_ids: Sequence[str], queued: bool | None) -> None:
        if len(prompt_ids) == 1:  # nearly always
            await self._look(prompt_ids[0], queued)
            return
        async with asyncio.TaskGroup() as group:
            for prompt_id in prompt_ids:
                group.create_task(self._look(prompt_id, queued))

    async def _look(self, prompt_id: str, queued: bool | None) -> None:
        try:
            seen = await self.client.history(prompt_id)
        except ServerError as error:
            self._tracker.look_failed(prompt_id, self._clock())
            if isinstance(error, Unreachable):
                self._is_away(error.what)
            else:
                await self._could_not_read(prompt_id, error)
            return
        self._refusals.right(_READING)
        self._unread.pop(prompt_id, None)
        self._came_back()
        if isinstance(seen, Success):
            self._worker.made()
        elif seen is not None:
            self._worker.works()
        outcome = self._tracker.looked(prompt_id, seen, queued, self._clock())
        if outcome is not None:
            self._settle(prompt_id, outcome)

    async def _could_not_read(self, prompt_id: str, error: ServerError) -> None:
        """A prompt's history was not to be had: after a few in a row see whether that is so of all, or of this one."""
        self._unread[prompt_id] += 1
        if self._refusals.wrong(error):
            if not await self.answers():
                return
            self._refusals.right(_READING)
        if self._unread[prompt_id] >= _UNREAD:
            self._settle(prompt_id, NotDownloaded(self.name, f"{_READING}: {error.with_remedy}"))

    def _settle(self, prompt_id: str, outcome: Outcome) -> None:
        self._tracker.forget(prompt_id)
        self._unread.pop(prompt_id, None)
        ending = self._endings.get(prompt_id)
        if ending is not None and not ending.done():
            ending.set_result(outcome)
