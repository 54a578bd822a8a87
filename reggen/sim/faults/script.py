"""Fault scripts: what goes wrong, and when, as data.

A fault says what it does, and which stream of events it counts:

    post      POST /prompt                      view     GET /view
    history   GET /history or /history/{id}     queue    GET /queue, GET /prompt, /api/jobs
    ws        GET /ws                           start    a prompt begins to run
    event     a frame is about to leave         time     seconds since the script began
    other     any other request

and which of them it strikes: the `nth` (one or several, counted from 1), `every` k-th, each with a
`chance`, or all; at most `times` times. On `time` it strikes `at` so many seconds, or `every` so many.

The actions, and the streams they may be on:

    anywhere      drop, deafen, refuse, lock, garbage, huge, restart, freeze, zombie
    any request   status, html, slow, silent, reset, redirect
    any but ws    flood, odd
    post          reject
    view          cut, trickle, endless, swap
    start         gap, fail, oom, black, flat, noise, wrong, blank, blocked, interrupt, vanish
    event         lose, duplicate, delay

In TOML, one `[[fault]]` table each, with the same names:

    [[fault]]
    do = "status"
    on = "post"
    nth = 3
    status = 502
"""

from __future__ import annotations

import json
import random
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from reggen.sim.faults.hostile import ODD

REQUESTS = ("post", "view", "history", "queue", "other", "ws")
STREAMS = (*REQUESTS, "start", "event", "time")

ANYWHERE = ("drop", "deafen", "refuse", "lock", "garbage", "huge", "restart", "freeze", "zombie")
AT_REQUEST = ("status", "html", "slow", "silent", "reset", "redirect")
AT_ANSWER = ("flood", "odd")
ANSWERED = REQUESTS[:-1]
AT_VIEW = ("cut", "trickle", "endless", "swap")
AT_START = ("gap", "fail", "oom", "black", "flat", "noise", "wrong", "blank", "blocked", "interrupt", "vanish")
AT_EVENT = ("lose", "duplicate", "delay")

_KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # what it does: (streams it may count on, the first by default; what it takes)
    "drop": (STREAMS, ("abrupt", "code")),
    "deafen": (STREAMS, ()),
    "refuse": (STREAMS, ("seconds",)),
    "lock": (STREAMS, ("seconds", "status")),
    "garbage": (STREAMS, ()),
    "huge": (STREAMS, ()),
    "restart": (STREAMS, ("seconds",)),
    "freeze": (STREAMS, ("seconds",)),
    "zombie": (("start", *(s for s in STREAMS if s != "start")), ("face",)),
    "status": (REQUESTS, ("status", "retry_after", "queued")),
    "html": (REQUESTS, ("queued",)),
    "slow": (REQUESTS, ("seconds",)),
    "silent": (REQUESTS, ("queued",)),
    "reset": (REQUESTS, ("queued",)),
    "redirect": (REQUESTS, ("status", "to")),
    "flood": (ANSWERED, ("status", "megabytes", "packed")),
    "odd": (ANSWERED, ("body",)),
    "reject": (("post",), ("message",)),
    "cut": (("view",), ("share",)),
    "trickle": (("view",), ("seconds",)),
    "endless": (("view",), ()),
    "swap": (("view",), ()),
    "gap": (("start",), ("seconds",)),
    "fail": (("start",), ("exception", "message", "node")),
    "oom": (("start",), ("node",)),
    "black": (("start",), ()),
    "flat": (("start",), ()),
    "noise": (("start",), ()),
    "wrong": (("start",), ()),
    "blank": (("start",), ()),
    "blocked": (("start",), ("message",)),
    "interrupt": (("start",), ("node",)),
    "vanish": (("start",), ()),
    "lose": (("event",), ("event",)),
    "duplicate": (("event",), ("event",)),
    "delay": (("event",), ("event", "seconds")),
}
_WHEN = ("nth", "every", "chance", "times", "at", "event", "seed")


class ScriptError(ValueError):
    """A fault whose parts do not fit together; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong. Raises ScriptError if its parts do not fit together."""

    do: str
    on: str = ""
    nth: int | tuple[int, ...] | None = None
    every: float | None = None
    chance: float | None = None
    times: int | None = None
    at: float | None = None
    event: str = ""
    """Count only frames of this type (`on="event"`)."""
    seed: int | None = None
    """Count only prompts with this seed (`on="start"`): the poison among them."""
    seconds: float = 1.0
    """Duration of a delay, gap, freeze, refusal or lock, or of the time a server is down."""
    status: int = 503
    """HTTP status of an answer. For a lock, 200 is a login page and 401 a token that is not accepted for a while."""
    retry_after: int | None = None
    queued: bool | None = None
    """Carry the request out before it is answered wrongly. None: yes for `silent` and `reset`, no for the others."""
    abrupt: bool = True
    """Drop sockets without a close frame."""
    code: int = 1001
    share: float = 0.5
    """Share of the body that is sent before it is cut."""
    exception: str = "RuntimeError"
    message: str = "rehearsed failure"
    node: str = ""
    """The node (id or class) that fails; by default the sampler."""
    face: str = "running"
    """State of a zombie: `running` (its prompt never ends) or `idle` (it never takes one)."""
    to: str = ""
    """Address that a redirect leads to, with the path and query appended; its status is `status` if 3xx, else 302."""
    megabytes: int = 100
    """Size of a flood. It begins like an answer, with status 200 unless `status` says otherwise."""
    packed: bool = False
    """Send the flood as gzip: a hundredth of its size on the wire."""
    body: str = "surrogate"
    """Content of an odd answer: surrogate, infinity, digits, deep, lists, escapes, bytes or empty."""

    def __post_init__(self) -> None:
        if self.do not in _KINDS:
            raise ScriptError(f"a fault cannot do {self.do!r}; there is {', '.join(_KINDS)}")
        streams, takes = _KINDS[self.do]
        if not self.on:
            object.__setattr__(self, "on", "time" if self.at is not None else streams[0])
        if self.on not in streams:
            raise ScriptError(f"{self.do} cannot happen on {self.on!r}, only on {', '.join(streams)}")
        for one in fields(self):
            if one.name in ("do", "on", *_WHEN, *takes):
                continue
            if one.default is not MISSING and getattr(self, one.name) != one.default:
                raise ScriptError(f"{self.do} takes no {one.name!r}")
        self._check_when()
        if self.do == "redirect" and not self.to:
            raise ScriptError("redirect: say to which address it leads")
        if self.body not in ODD:
            raise ScriptError(f"{self.do}: there is no odd body {self.body!r}, only {', '.join(ODD)}")

    def _check_when(self) -> None:
        given = [name for name in ("nth", "every", "chance") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ScriptError(f"{self.do}: give one of nth, every and chance, not {' and '.join(given)}")
        if self.on == "time" and self.at is None and self.every is None:
            raise ScriptError(f"{self.do} on time needs at or every, in seconds")
        if self.at is not None and self.on != "time":
            raise ScriptError(f"{self.do}: at (seconds) goes with on = 'time' only")
        if self.chance is not None and not 0 <= self.chance <= 1:
            raise ScriptError(f"{self.do}: chance lies between 0 and 1, not at {self.chance}")
        if self.event and self.on != "event":
            raise ScriptError(f"{self.do}: event goes with on = 'event' only")
        if self.seed is not None and self.on != "start":
            raise ScriptError(f"{self.do}: seed goes with on = 'start' only")
        if self.face not in ("running", "idle"):
            raise ScriptError(f"{self.do}: a zombie's face is running or idle, not {self.face!r}")
        numbers = (self.nth,) if isinstance(self.nth, int) else self.nth or ()
        if any(number < 1 for number in numbers) or (self.every is not None and self.every <= 0):
            raise ScriptError(f"{self.do}: nth counts from 1, and every is positive")

    @property
    def carried_out(self) -> bool:
        """True if the server does what the request asks for before it misbehaves."""
        return self.do in ("silent", "reset") if self.queued is None else self.queued


@dataclass(frozen=True, slots=True)
class Script:
    """Faults, and the seed of the ones left to chance."""

    faults: tuple[Fault, ...] = ()
    seed: int = 0

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Script:
        """Make a script from plain data: `{"seed": 1, "fault": [{"do": "drop", "nth": 2}, ...]}`.

        Raises ScriptError, which names the fault, counted from 1, and what is wrong with it.
        """
        unknown = set(data) - {"seed", "fault"}
        if unknown:
            raise ScriptError(f"a script holds seed and fault, not {', '.join(sorted(unknown))}")
        entries, seed = data.get("fault", []), data.get("seed", 0)
        if not isinstance(entries, list) or not isinstance(seed, int):
            raise ScriptError("seed must be a whole number and fault a list of tables")
        return cls(tuple(_fault(number, entry) for number, entry in enumerate(entries, 1)), seed)

    @classmethod
    def from_toml(cls, text: str) -> Script:
        """Parse the text of a TOML file. Raises ScriptError."""
        try:
            return cls.parse(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise ScriptError(f"not TOML: {error}") from error

    @classmethod
    def from_json(cls, text: str) -> Script:
        """Parse the text of a JSON file. Raises ScriptError."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise ScriptError(f"not JSON: {error}") from error
        if not isinstance(data, dict):
            raise ScriptError("a script is an object with seed and fault")
        return cls.parse(data)


def _fault(number: int, entry: Any) -> Fault:
    if not isinstance(entry, dict) or "do" not in entry:
        raise ScriptError(f"fault {number}: a fault is a table that says at least what to do")
    names = {one.name: one for one in fields(Fault)}
    for name, value in entry.items():
        if name not in names:
            raise ScriptError(f"fault {number}: there is no {name!r}; known are {', '.join(names)}")
        if not _fits(value, str(names[name].type)):
            raise ScriptError(f"fault {number}: {name} = {value!r} should be {names[name].type}")
    given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}
    try:
        return Fault(**given)
    except ScriptError as error:
        raise ScriptError(f"fault {number}: {error}") from None


def _fits(value: Any, declared: str) -> bool:
    if isinstance(value, list):
        return "tuple" in declared and all(type(one) is int for one in value)
    if isinstance(value, bool):
        return "bool" in declared
    return type(value).__name__ in declared or (isinstance(value, int) and "float" in declared)


@dataclass(slots=True)
class ArmedFault:
    """A fault, and how often its event has been seen and it has struck."""

    fault: Fault
    rng: random.Random
    since: float
    seen: int = 0
    fired: int = 0

    def strikes(self) -> bool:
        """Count one event; True if the fault strikes at it."""
        fault = self.fault
        self.seen += 1
        if fault.times is not None and self.fired >= fault.times:
            return False
        if fault.nth is not None:
            hit = self.seen in ((fault.nth,) if isinstance(fault.nth, int) else fault.nth)
        elif fault.every is not None:
            hit = self.seen % int(fault.every) == 0
        else:
            hit = fault.chance is None or self.rng.random() < fault.chance
        self.fired += hit
        return hit

    def next_time(self) -> float | None:
        """Time at which a fault on `time` strikes next; None if never again."""
        fault = self.fault
        if fault.times is not None and self.fired >= fault.times:
            return None
        if fault.every is not None:
            first = fault.every if fault.at is None else fault.at
            return self.since + first + self.fired * fault.every
        return None if self.fired or fault.at is None else self.since + fault.at


@dataclass(slots=True)
class Director:
    """A script being played: counts events and says which faults strike."""

    script: Script
    began: float
    armed: list[ArmedFault] = field(default_factory=list)

    def __post_init__(self) -> None:
        for fault in self.script.faults:
            self.add(fault, self.began)

    def add(self, fault: Fault, now: float) -> None:
        """Arm one more fault, which counts from now on."""
        rng = random.Random(f"{self.script.seed}/{len(self.armed)}")
        self.armed.append(ArmedFault(fault, rng, now))

    def due(self, stream: str, event: str = "", seeds: Collection[int] = ()) -> list[Fault]:
        """Count an event on a stream, with its type or the seeds of its prompt, and return the faults that strike."""
        listening = (
            one
            for one in self.armed
            if one.fault.on == stream and one.fault.event in ("", event) and one.fault.seed in (None, *seeds)
        )
        return [one.fault for one in listening if one.strikes()]

    def next_time(self) -> float | None:
        """Time at which the next fault on `time` is due; None if there is none."""
        return min((t for one in self._timed() if (t := one.next_time()) is not None), default=None)

    def due_by(self, now: float) -> list[Fault]:
        """The faults on `time` that are due, each once; they count as having struck."""
        struck = [one for one in self._timed() if (t := one.next_time()) is not None and t <= now]
        for one in struck:
            one.fired += 1
        return [one.fault for one in struck]

    def _timed(self) -> list[ArmedFault]:
        return [one for one in self.armed if one.fault.on == "time"]
