"""Events of a run (`RunEvent`), and the state they lead to (`Progress`, a fold over the events).

Pure: every event carries its own time, in seconds of one monotonic clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

_RECENT = 32  # prompts that the rate is computed from
_PROBLEMS = 5  # recent problems that are kept as text


@dataclass(frozen=True, slots=True)
class Scanning:
    """``done`` of ``total`` images already in the folder have been checked; the scan is over when they are equal."""

    at: float
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run begins: ``done`` of ``total`` slots are filled already."""

    at: float
    total: int
    done: int
    servers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ServerChanged:
    """A server became available or unavailable, or the reason changed; ``why`` is "" when all is well."""

    at: float
    server: str
    up: bool
    why: str


@dataclass(frozen=True, slots=True)
class PromptsTakenOver:
    """Prompts for these slots are on a server from an earlier run; this run uses them instead of posting them again."""

    at: float
    server: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PromptPosted:
    """A prompt for these slots was posted to a server; ``checkpoint`` is set where the job has several."""

    at: float
    server: str
    names: tuple[str, ...]
    checkpoint: str | None = None


@dataclass(frozen=True, slots=True)
class PromptLeft:
    """A prompt is no longer on the server, whatever became of it."""

    at: float
    server: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImageSaved:
    """An image is in the dataset, durably.

    ``busy``: the server's own time for it in seconds, None where it is unknown. ``prompt``: the id of its prompt, the
    same for all images of one batch.
    """

    at: float
    server: str
    name: str
    busy: float | None
    prompt: str = ""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A failure that the run survives; ``server`` is "" where no server caused it."""

    at: float
    server: str
    text: str


@dataclass(frozen=True, slots=True)
class SlotGivenUp:
    """A slot stays empty in this run, for this reason."""

    at: float
    name: str
    reason: str
    server: str = ""


@dataclass(frozen=True, slots=True)
class SlotsReopened:
    """Images were found deleted or damaged during the run: these slots are filled again."""

    at: float
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunStopping:
    """No new prompts are posted from here on, for this reason."""

    at: float
    why: str


@dataclass(frozen=True, slots=True)
class RunPaused:
    """Nothing is posted for now, for this reason; ``why`` is "" when posting resumes."""

    at: float
    why: str


@dataclass(frozen=True, slots=True)
class ServersAwaited:
    """No server can be used, for this reason; ``why`` is "" when one can be used again."""

    at: float
    why: str


RunEvent = (
    Scanning
    | RunStarted
    | ServerChanged
    | PromptsTakenOver
    | PromptPosted
    | PromptLeft
    | ImageSaved
    | Trouble
    | SlotGivenUp
    | SlotsReopened
    | RunStopping
    | RunPaused
    | ServersAwaited
)


@dataclass(slots=True)
class _SavedBatch:
    """The saved images of one prompt: they arrive almost together, so they are one step of the rate."""

    at: float
    prompt: str
    images: int = 1


@dataclass(slots=True)
class ServerView:
    """One server as displays and reports show it."""

    up: bool = False
    why: str = "connecting"
    holds: list[str] = field(default_factory=list)  # names of slots; those of the running prompt first
    since: float = 0.0  # when the running prompt became the first
    made: int = 0
    busy: float = 0.0
    failures: int = 0
    checkpoint: str | None = None
    switches: int = 0  # from one checkpoint to another


@dataclass(slots=True)
class Progress:
    """The state of a run, folded from its events.

    ``before`` and ``made`` count slots filled before this run and by it. ``stopping``, ``paused`` and ``waiting`` are
    reasons, "" where they do not apply.
    """

    total: int = 0
    before: int = 0
    made: int = 0
    given_up: dict[str, str] = field(default_factory=dict)
    servers: dict[str, ServerView] = field(default_factory=dict)
    problems: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=_PROBLEMS))
    began: float = 0.0
    scanning: Scanning | None = None
    stopping: str = ""
    paused: str = ""
    waiting: str = ""
    _batches: deque[_SavedBatch] = field(default_factory=lambda: deque(maxlen=_RECENT))

    @property
    def done(self) -> int:
        """Number of filled slots."""
        return self.before + self.made

    @property
    def missing(self) -> int:
        """Number of empty slots."""
        return self.total - self.done

    def rate(self, now: float) -> float | None:
        """Images per second over the recent prompts, falling while the next one is late. None before two prompts."""
        if len(self._batches) < 2:
            return None
        first, last = self._batches[0], self._batches[-1]
        span = last.at - first.at
        mean = span / (len(self._batches) - 1)
        late = max(0.0, now - last.at - mean)
        images = sum(batch.images for batch in self._batches) - first.images
        return images / (span + late) if span + late > 0 else None

    def eta(self, now: float, later: int = 0) -> float | None:
        """Seconds until the last image and ``later`` further ones are made; None while the rate is unknown."""
        rate = self.rate(now)
        images = self.missing - len(self.given_up) + later
        return images / rate if rate and images > 0 else None

    def apply(self, event: RunEvent) -> None:
        """Change the state by one event."""
        match event:
            case Scanning():
                self.scanning = event if event.done < event.total else None
            case RunStarted():
                self._begin(event)
            case ServerChanged():
                self._server_changed(event)
            case PromptPosted() | PromptLeft():
                self._update_holds(event)
            case ImageSaved():
                self._count_image(event)
            case Trouble():
                self._note(event.at, event.text)
                self._count_failure(event.server)
            case SlotGivenUp():
                self.given_up[event.name] = event.reason
                self._count_failure(event.server)
                self._note(event.at, f"{event.name} is given up: {event.reason}")
            case SlotsReopened():
                self.before -= len(event.names)
            case RunStopping() | RunPaused() | ServersAwaited():
                self._set_halt(event)

    def _begin(self, event: RunStarted) -> None:
        """Forget an earlier run, except its problems: a run begins again when its ledger turns out to be damaged."""
        self.total, self.before, self.made, self.began = event.total, event.done, 0, event.at
        self.given_up, self.stopping, self.paused, self.waiting = {}, "", "", ""
        self.servers = {server: ServerView() for server in event.servers}
        self._batches.clear()

    def _set_halt(self, event: RunStopping | RunPaused | ServersAwaited) -> None:
        match event:
            case RunStopping():
                self.stopping = event.why
            case RunPaused():
                self.paused = event.why
            case ServersAwaited():
                self.waiting = event.why
        if not event.why:
            self._batches.clear()  # the pause must not lower the rate

    def _count_failure(self, server: str) -> None:
        if server in self.servers:
            self.servers[server].failures += 1

    def _server_changed(self, event: ServerChanged) -> None:
        view = self.servers[event.server]
        if event.why and (view.up or event.up):
            self._note(event.at, f"{event.server}: {event.why}")
        view.up, view.why = event.up, event.why

    def _update_holds(self, event: PromptPosted | PromptLeft) -> None:
        view = self.servers[event.server]
        holds = view.holds
        if isinstance(event, PromptLeft) or not holds:
            view.since = event.at
        if isinstance(event, PromptPosted):
            holds.extend(event.names)
            view.switches += view.checkpoint is not None and view.checkpoint != event.checkpoint
            view.checkpoint = event.checkpoint
        else:
            holds[:] = [name for name in holds if name not in event.names]

    def _count_image(self, event: ImageSaved) -> None:
        self.made += 1
        same = (batch for batch in reversed(self._batches) if event.prompt and batch.prompt == event.prompt)
        if batch := next(same, None):  # the images of several servers' prompts arrive interleaved
            batch.images += 1
        else:
            self._batches.append(_SavedBatch(event.at, event.prompt))
        view = self.servers[event.server]
        view.made += 1
        view.busy += event.busy or 0.0

    def _note(self, at: float, text: str) -> None:
        self.problems.append((at, text))
