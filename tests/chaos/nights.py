"""Nights, drawn from a seed: a small job, the faults of each of its servers, and the breaks of its run.

Pure: the same seed gives the same night on every machine. The most that each fault may cost is here too.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from reggen.sim import Fault, Script, Settings
from reggen.sim.faults.hostile import ODD
from reggen.sim.faults.script import (
    ANSWERED,
    ANYWHERE,
    AT_ANSWER,
    AT_EVENT,
    AT_REQUEST,
    AT_START,
    AT_VIEW,
    REQUESTS,
    STREAMS,
)

Kind = Literal["inprocess", "cli"]
EndSignal = Literal["cancel", "once", "twice", "terminate", "kill"]

VERSIONS = ("0.33.0", "0.3.64", "2024-10", "2024-07")
STREAMS_OF = {
    **dict.fromkeys(ANYWHERE, STREAMS),
    **dict.fromkeys(AT_REQUEST, REQUESTS),
    **dict.fromkeys(AT_ANSWER, ANSWERED),
    **dict.fromkeys(("reject",), ("post",)),
    **dict.fromkeys(AT_VIEW, ("view",)),
    **dict.fromkeys(AT_START, ("start",)),
    **dict.fromkeys(AT_EVENT, ("event",)),
}
"""The faults, and the streams they may be on."""

EXCLUDED = {
    "zombie": "only a restart ends it, seconds later: such nights are slow",
    "wrong": "no check can see that a picture with the right note shows something else",
}
"""Faults that are left out unless asked for by name, and the reason."""

_EVENTS = ("", "", "status", "executing", "executed", "execution_start", "execution_success", "progress")
_STATUSES = (400, 404, 408, 413, 429, 500, 500, 502, 503, 504)
_BREAKS: dict[Kind, tuple[EndSignal, ...]] = {
    "inprocess": ("cancel", "once", "twice"),
    "cli": ("kill", "kill", "once", "twice", "terminate"),
}
_SECONDS = {  # the shortest and the longest of each, so that every time-out of the job lies in between
    "refuse": (0.05, 1.0),
    "lock": (0.05, 1.5),
    "gap": (0.02, 0.25),
    "restart": (0.02, 1.0),
    "freeze": (0.05, 1.5),
    "slow": (0.01, 1.4),
    "trickle": (0.05, 0.5),
    "delay": (0.005, 0.1),
}


@dataclass(frozen=True)
class Break:
    """The point at which a run is broken off: after a number of events, and then so many seconds.

    Events are those of the run where it is in this process, and answered requests where it is not. ``cancel`` ends the
    task, ``once`` and ``twice`` are Ctrl-C, ``terminate`` and ``kill`` are signals.
    """

    how: EndSignal
    events: int
    seconds: float


@dataclass(frozen=True)
class Night:
    """All that a seed decides. ``document`` is the job without its folder and addresses."""

    seed: int
    kind: Kind
    document: dict[str, Any]
    depths: tuple[int, ...]
    servers: tuple[tuple[Settings, Script], ...]
    breaks: tuple[Break, ...]

    @property
    def count(self) -> int:
        """The number of images of the job."""
        return int(self.document["dataset"]["count"])

    @property
    def batch(self) -> int:
        """The number of images of a prompt."""
        return int(self.document["sampling"]["batch"])

    @property
    def in_hand(self) -> int:
        """The most prompts that a run has in hand: on the servers, or ended there and being fetched."""
        return sum(depth + 4 for depth in self.depths)

    def faults(self) -> Iterable[Fault]:
        """The faults of all servers."""
        return (fault for _, script in self.servers for fault in script.faults)

    def cost(self, fault: Fault) -> int:
        """The most prompts that one strike of a fault may waste.

        A server that dies or freezes takes along all that the run has in hand. One without a sign of life counts as
        away, and its prompts go to others. Black pictures and too little memory split a batch into single prompts. A
        failed post costs its prompt; after a refused poll or picture its server may count as away. Faults of sockets
        and frames cost nothing: they are hints.
        """
        if fault.do in ("restart", "freeze", "zombie", "lock"):
            return self.in_hand
        if fault.do in ("black", "flat", "noise", "wrong", "oom"):
            return self.batch
        if fault.do == "gap":
            return 0
        if fault.do in AT_START or fault.do in AT_VIEW or fault.do == "reject":
            return 1
        if fault.do in (*AT_REQUEST, *AT_ANSWER) and fault.on in ("queue", "history", "view"):
            return self.in_hand
        if fault.do in (*AT_REQUEST, *AT_ANSWER):
            return int(fault.on == "post")
        return 0


def night(seed: int, kind: Kind = "inprocess", also: Iterable[str] = ()) -> Night:
    """The night of a seed. ``also`` names faults that are excluded by default."""
    rng = random.Random(f"{kind}/{seed}")
    count, depths = rng.randint(3, 25), tuple(rng.randint(1, 4) for _ in range(rng.choice((1, 1, 2, 3))))
    document = {
        "dataset": {"class": "night", "count": count, "format": rng.choice(("png",) * 8 + ("webp", "jpg"))},
        "sampling": {
            "checkpoint": "AnythingXL_inkBase.safetensors",
            "width": 64,
            "height": 64,
            "steps": 2,
            "batch": rng.choice((1, 1, 1, 2, 3, 4)),
        },
        "prompts": {"positive": ["a cat", "a dog", "a bird"][: rng.randint(1, 3)], "negative": "blurry"},
        "limits": {
            "attempts": rng.randint(1, 4),
            "lost": rng.randint(2, 10),
            "connect": 1.0,
            "request": 1.0,
            "download": 1.5,
            "silence": 1.0,
            "away": round(rng.uniform(0.2, 0.8), 2),
            "megabytes": 1,
        },
    }
    kinds = [do for do in STREAMS_OF if do not in EXCLUDED or do in set(also)]
    servers = tuple((_settings(rng), _script(rng, kinds)) for _ in depths)
    breaks = tuple(_break(rng, kind) for _ in range(rng.choice((0, 1, 1, 2, 3))))
    return Night(seed, kind, document, depths, servers, breaks)


def _settings(rng: random.Random) -> Settings:
    return Settings(
        seconds=rng.choice((0.0, 0.002, 0.01, 0.03)),
        history_lag=rng.choice((0.0, 0.001, 0.02)),
        version=rng.choice(VERSIONS),
        previews=rng.random() < 0.1,
    )


def _script(rng: random.Random, kinds: list[str]) -> Script:
    faults = tuple(_fault(rng, rng.choice(kinds)) for _ in range(rng.choice((0, 1, 1, 2, 3, 4, 6))))
    return Script(faults, rng.getrandbits(32))


def _fault(rng: random.Random, do: str) -> Fault:
    on = rng.choice(STREAMS_OF[do])
    facts: dict[str, Any] = {"do": do, "on": on, **_when(rng, on), **_details(rng, do)}
    if on == "event":
        facts["event"] = rng.choice(_EVENTS)
    return Fault(**facts)


def _when(rng: random.Random, on: str) -> dict[str, Any]:
    """The times at which a fault strikes, few enough for every night to end."""
    most = 12 if on == "event" else 4
    if on == "time":
        at, times = round(rng.uniform(0.05, 2.0), 3), rng.randint(1, 3)
        return {"at": at, "every": round(rng.uniform(0.1, 1.0), 3), "times": times} if times > 1 else {"at": at}
    when = rng.choice(("nth", "some", "every", "chance", "all"))
    far = 60 if on == "event" else 12
    if when == "nth":
        return {"nth": rng.randint(1, far)}
    if when == "some":
        return {"nth": tuple(sorted(rng.sample(range(1, far + 1), rng.randint(2, 4))))}
    bounded = {"times": rng.randint(1, most)}
    if when == "every":
        return {"every": rng.randint(2, 7), **bounded}
    return {"chance": round(rng.uniform(0.1, 0.6), 2), **bounded} if when == "chance" else bounded


def _hostile(rng: random.Random, do: str) -> dict[str, Any]:
    if do == "redirect":
        return {"to": "http://127.0.0.1:9/elsewhere", "status": rng.choice((301, 302, 308))}  # nobody is there
    if do == "flood":
        return {"megabytes": 6, "packed": rng.random() < 0.5, "status": rng.choice((200, 200, 500))}
    return {"body": rng.choice(tuple(ODD))}


def _details(rng: random.Random, do: str) -> dict[str, Any]:
    if do in ("redirect", *AT_ANSWER):
        return _hostile(rng, do)
    seconds = round(rng.uniform(*_SECONDS[do]), 3) if do in _SECONDS else 0.0
    match do:
        case _ if seconds and do != "lock":
            return {"seconds": seconds}
        case "drop":
            return {"abrupt": rng.random() < 0.5}
        case "lock":
            return {"seconds": seconds, "status": rng.choice((200, 401, 403, 404, 502))}
        case "status":
            return {
                "status": rng.choice(_STATUSES),
                "retry_after": rng.choice((None, None, 0, 1)),
                "queued": rng.choice((None, True, False)),
            }
        case "html" | "silent" | "reset":
            return {"queued": rng.choice((None, True, False))}
        case "cut":
            return {"share": rng.choice((0.0, 0.1, 0.5, 0.99))}
        case "fail":
            return {"exception": rng.choice(("RuntimeError", "ValueError", "KeyError"))}
        case "zombie":
            return {"face": rng.choice(("running", "idle"))}
    return {}


def _break(rng: random.Random, kind: Kind) -> Break:
    how = rng.choice(_BREAKS[kind])
    first = 0 if how in ("kill", "cancel") else 1  # a signal before the first request finds nobody to hear it
    return Break(how, rng.randint(first, 60), round(rng.choice((0.0, rng.uniform(0, 0.02), rng.uniform(0, 0.5))), 4))
