"""What a run tells while it goes on (`RunEvent`), and where that leaves it (`Progress`, a fold over the events).

Pure: every event carries its own time, in seconds of one steady clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

_RECENT = 32  # prompts that the rate is taken from
_PROBLEMS = 5  # the last few, in words


@dataclass(frozen=True, slots=True)
class Scanning:
    """So many of the images that lie there were looked at; all of them when that is over."""

    at: float
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The run knows what it has to do: ``done`` of ``total`` slots were filled before it."""

    at: float
    total: int
    done: int
    servers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ServerChanged:
    """A server came, went, or goes on in another way; ``why`` is empty when all is well."""

    at: float
    server: str
    up: bool
    why: str


@dataclass(frozen=True, slots=True)
class PromptsTakenOver:
    """Prompts for these slots were still on a server from an earlier run, and are not paid for again."""

    at: float
    server: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PromptPosted:
    """A prompt for these slots went to a server; ``checkpoint`` is named where the job has several."""

    at: float
    server: str
    names: tuple[str, ...]
    checkpoint: str | None = None


@dataclass(frozen=True, slots=True)
class PromptLeft:
    """The prompt left the server, one way or another."""

    at: float
    server: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImageSaved:
    """An image is in the dataset, durably.

    ``busy`` is what the server needed for it, in seconds, if it says; ``prompt`` is the same for the images of
    one batch.
    """

    at: float
    server: str
    name: str
    busy: float | None
    prompt: str = ""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something went wrong that the run survives; ``server`` is empty when none is to blame."""

    at: float
    server: str
    text: str


@dataclass(frozen=True, slots=True)
class SlotGivenUp:
    """A slot stays empty, for this reason."""

    at: float
    name: str
    reason: str
    server: str = ""


@dataclass(frozen=True, slots=True)
class SlotsReopened:
    """Images that were there turned out to be gone or damaged: these slots are filled anew."""

    at: float
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunStopping:
    """No new prompts from here on, for this reason."""

    at: float
    why: str


@dataclass(frozen=True, slots=True)
class RunPaused:
    """Nothing is posted for now, for this reason; empty when it goes on."""

    at: float
    why: str


@dataclass(frozen=True, slots=True)
class ServersAwaited:
    """No server can be used, for this reason; empty when one can be again."""

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
class _Commits:
    """The images of one prompt, which are committed within moments of each other: one step of the rate."""

    at: float
    prompt: str
    images: int = 1


@dataclass(slots=True)
class ServerView:
    """One server as the faces show it."""

    up: bool = False
    why: str = "connecting"
    holds: list[str] = field(default_factory=list)  # names, the running one first
    since: float = 0.0  # when the first of them came to be first
    made: int = 0
    busy: float = 0.0
    failures: int = 0
    checkpoint: str | None = None
    switches: int = 0  # from one checkpoint to another


@dataclass(slots=True)
class Progress:
    """The state of a run, folded from its events."""

    total: int = 0
    before: int = 0
    made: int = 0
    given_up: dict[str, str] = field(default_factory=dict)
    servers: dict[str, ServerView] = field(default_factory=dict)
    problems: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=_PROBLEMS))
    troubles: int = 0
    began: float = 0.0
    looking: Scanning | None = None
    stopping: str = ""
    paused: str = ""
    waiting: str = ""
    _commits: deque[_Commits] = field(default_factory=lambda: deque(maxlen=_RECENT))

    @property
    def done(self) -> int:
        """Slots filled, by this run and before it."""
        return self.before + self.made

    @property
    def missing(self) -> int:
        """Slots still empty."""
        return self.total - self.done

    def rate(self, now: float) -> float | None:
        """Images per second over the recent commits; falls when none comes. None before two prompts."""
        if len(self._commits) < 2:
            return None
        first, last = self._commits[0], self._commits[-1]
        span = last.at - first.at
        mean = span / (len(self._commits) - 1)
        late = max(0.0, now - last.at - mean)
        images = sum(commits.images for commits in self._commits) - first.images
        return images / (span + late) if span + late > 0 else None

    def eta(self, now: float, later: int = 0) -> float | None:
        """Seconds until the last image, and so many that come later, at the present rate; None when nobody can know."""
        rate = self.rate(now)
        left = self.missing - len(self.given_up) + later
        return left / rate if rate and left > 0 else None

    def apply(self, event: RunEvent) -> None:
        """Take in one event."""
        match event:
            case Scanning():
                self.looking = event if event.done < event.total else None
            case RunStarted():
                self.total, self.before, self.began = event.total, event.done, event.at
                self.made = 0  # a run that begins again counts what it has made as being there
                self.servers = {server: ServerView() for server in event.servers}
            case ServerChanged():
                self._server_changed(event)
            case PromptPosted() | PromptLeft():
                self._moved(event)
            case ImageSaved():
                self._committed(event)
            case Trouble():
                self._note(event.at, event.text)
                self._failed_on(event.server)
            case SlotGivenUp():
                self.given_up[event.name] = event.reason
                self._failed_on(event.server)
                self._note(event.at, f"{event.name} is given up: {event.reason}")
            case SlotsReopened():
                self.before -= len(event.names)
            case RunStopping() | RunPaused() | ServersAwaited():
                self._halted(event)

    def _halted(self, event: RunStopping | RunPaused | ServersAwaited) -> None:
        match event:
            case RunStopping():
                self.stopping = event.why
            case RunPaused():
                self.paused = event.why
            case ServersAwaited():
                self.waiting = event.why
        if not event.why:
            self._commits.clear()  # nothing was made meanwhile, which says nothing of the rate from here on

    def _failed_on(self, server: str) -> None:
        if server in self.servers:
            self.servers[server].failures += 1

    def _server_changed(self, event: ServerChanged) -> None:
        view = self.servers[event.server]
        if event.why and (view.up or event.up):
            self._note(event.at, f"{event.server}: {event.why}")
        view.up, view.why = event.up, event.why

    def _moved(self, event: PromptPosted | PromptLeft) -> None:
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

    def _committed(self, event: ImageSaved) -> None:
        self.made += 1
        same = (commits for commits in reversed(self._commits) if event.prompt and commits.prompt == event.prompt)
        if commits := next(same, None):  # prompts of several servers arrive in turns
            commits.images += 1
        else:
            self._commits.append(_Commits(event.at, event.prompt))
        view = self.servers[event.server]
        view.made += 1
        view.busy += event.busy or 0.0

    def _note(self, at: float, text: str) -> None:
        self.troubles += 1
        self.problems.append((at, text))
