"""The health of a run's servers: which of them are there, rest, ail or are left out. Pure: ``now`` is handed in."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from reggen.backoff import Backoff
from reggen.scheduler.circuit_breaker import LONGEST_REST, RESTS, CircuitBreaker

_REJECTIONS = 3  # prompts in a row that a server may reject, before it is left out
_REFUSED_POSTS = 5
"""Posts in a row, of several texts or of the only one there is, that a proxy may refuse for good before its server is
left out."""
_RAISED, _RAISED_ALIKE = 3, 10
"""Prompts in a row, of several texts and of one of several, that may raise on a server while others make images,
before the server is at fault."""


@dataclass(slots=True)
class ServerHealth:
    """The health of one server. ``down_since`` is None while it is up."""

    breaker: CircuitBreaker
    down_since: float | None
    was_up: bool = False
    left_out: bool = False
    rejections: int = 0  # prompts in a row that it rejected
    refused_posts: list[str] = field(default_factory=list)  # the texts of posts in a row that were refused for good
    raised: list[str] = field(default_factory=list)  # the texts of prompts in a row over which a node raised
    images_before: int = 0  # images of all servers before the first prompt in ``raised``

    @property
    def is_usable(self) -> bool:
        """True when it is up and takes part."""
        return self.down_since is None and not self.left_out

    def is_open(self, now: float) -> bool:
        """True when it may be given a prompt now."""
        return self.is_usable and self.breaker.is_open(now)


class FleetHealth:
    """The health of all servers of a run, by name.

    Each counts as down since ``now`` until it is up. ``patience`` is how many seconds an absent server is still worth
    waiting for; ``one_text``: all prompts have the same text.
    """

    def __init__(
        self,
        names: Iterable[str],
        jitter: Callable[[float], float],
        now: float,
        *,
        patience: float = 30.0,
        one_text: bool = False,
        rests: Backoff = RESTS,
    ) -> None:
        self.servers = {name: ServerHealth(CircuitBreaker(jitter, rests), now) for name in names}
        self._patience, self._one_text = patience, one_text
        self._images = 0
        self._took_one = False

    # ---- questions

    @property
    def usable(self) -> frozenset[str]:
        """The servers that are up and take part."""
        return frozenset(name for name, server in self.servers.items() if server.is_usable)

    def candidates(self, now: float) -> frozenset[str]:
        """The usable servers, and those that went away so lately that they are worth waiting for."""
        return frozenset(
            name
            for name, server in self.servers.items()
            if not server.left_out and (server.down_since is None or now - server.down_since < self._patience)
        )

    def has_others(self, name: str) -> bool:
        """True when a server other than ``name`` is usable."""
        return bool(self.usable - {name})

    @property
    def any_well(self) -> bool:
        """True when a usable server is not on trial."""
        return any(server.is_usable and not server.breaker.on_trial for server in self.servers.values())

    @property
    def took_none(self) -> bool:
        """True until a server takes the first prompt: until then a rejection says something about the job."""
        return not self._took_one

    @property
    def ailing(self) -> frozenset[str]:
        """The servers on which every prompt raises while others make images."""
        return frozenset(name for name, server in self.servers.items() if self._is_ailing(server))

    def wake_at(self, now: float) -> float:
        """The next time that a rest ends or an absent server stops being a candidate; infinite for none."""
        rests = [server.breaker.rests_until for server in self.servers.values()]
        absences = [server.down_since for server in self.servers.values() if server.down_since is not None]
        times = [*rests, *(since + self._patience for since in absences)]
        return min((time for time in times if time > now), default=math.inf)

    # ---- events

    def server_changed(self, name: str, *, up: bool, now: float) -> None:
        """Note that a server came or went."""
        server = self.servers[name]
        if not up:
            server.down_since = now if server.down_since is None else server.down_since
            return
        if server.was_up and server.down_since is not None:
            server.breaker.came_back()
        server.down_since, server.was_up = None, True

    def start_probes(self, now: float) -> list[str]:
        """Begin to probe the servers whose rest is over; end each with `probe_answered` or `failed`."""
        names = [name for name, server in self.servers.items() if server.is_usable and server.breaker.needs_probe(now)]
        for name in names:
            self.servers[name].breaker.start_probe()
        return names

    def probe_answered(self, name: str) -> None:
        """Give a server one prompt on trial: it answered its probe."""
        self.servers[name].breaker.probe_answered()

    def failed(self, name: str, now: float, at_least: float = 0.0) -> None:
        """Let a server rest that could not be used: longer each time, and at least as long as it asked for."""
        self.servers[name].breaker.failed(now, at_least)

    def prompt_ended(self, name: str) -> None:
        """Note that a server took a prompt and ended it, well or not."""
        server = self.servers[name]
        server.rejections = 0
        server.refused_posts.clear()
        if not self._is_ailing(server):
            server.breaker.prompt_ended()
        self._took_one = True

    def image_made(self, name: str) -> None:
        """Note a good image."""
        server = self.servers[name]
        server.breaker.image_made()
        server.raised.clear()
        self._images += 1

    def prompt_rejected(self, name: str) -> bool:
        """Note that a server rejected a prompt that others might take. True when it is left out from here on."""
        server = self.servers[name]
        server.rejections += 1
        if server.rejections < _REJECTIONS or server.left_out or not self.has_others(name):
            return False
        server.left_out = True
        return True

    def post_refused(self, name: str, text: str) -> bool:
        """Note that a proxy refused a post for good. True when its server is left out from here on."""
        server = self.servers[name]
        server.refused_posts.append(text)
        if (
            server.left_out
            or len(server.refused_posts) < _REFUSED_POSTS
            or self._is_one_of_several(server.refused_posts)
        ):
            return False  # one text that is refused, of several, is given up by itself
        server.left_out = True
        return True

    def node_raised(self, name: str, now: float, rest: float, *, text: str, before: Collection[str] = ()) -> bool:
        """Note that a node raised. True when that is the server's fault: every prompt raises, and others make images.

        Then the server rests, longer each time; ``rest`` is the first one, in seconds. A prompt that raised on another
        server, too (``before``), is itself at fault and says nothing about either.
        """
        server = self.servers[name]
        if elsewhere := set(before) - {name}:
            for other in elsewhere:
                del self.servers[other].raised[-1:]
            return False
        if not server.raised:
            server.images_before = self._images
        server.raised.append(text)
        if not self._is_ailing(server):
            return False
        times = len(server.raised) - _RAISED + 1
        server.breaker.failed(now, Backoff(rest, LONGEST_REST).ceiling(times))
        return True

    def _is_ailing(self, server: ServerHealth) -> bool:
        fewest = _RAISED_ALIKE if self._is_one_of_several(server.raised) else _RAISED
        return len(server.raised) >= fewest and self._images > server.images_before  # by others: its own ends the row

    def _is_one_of_several(self, texts: list[str]) -> bool:
        """True when they are all the same text, and the job has others."""
        return len(set(texts)) == 1 and not self._one_text
