"""Looking at servers before the first prompt."""

from __future__ import annotations

import asyncio
from typing import Any

from reggen.comfy.client import Client
from reggen.comfy.history import Outcome
from reggen.engine.preflight import examine
from tests.conftest import JobMaker
from tests.preparing import prepared_of

SERVERS = 200


class Crowd:
    """How many servers are being asked now, and were at most."""

    def __init__(self) -> None:
        self.now = self.most = 0


class Slow(Client):
    """A server that answers after everybody else has had a turn, and knows every class."""

    def __init__(self, crowd: Crowd, number: int) -> None:
        super().__init__(f"http://server-{number}")
        self._crowd = crowd

    async def queue_depth(self) -> int:
        self._crowd.now += 1
        self._crowd.most = max(self._crowd.most, self._crowd.now)
        for _ in range(SERVERS):
            await asyncio.sleep(0)
        return 0

    async def history(self, prompt_id: str) -> Outcome | None:  # noqa: ARG002
        return None

    async def version(self) -> str:
        return "0.33.0"

    async def node_class(self, name: str) -> dict[str, Any] | None:
        self._crowd.now -= name == "SaveImage"
        return {}


async def test_a_large_fleet_is_asked_in_turns(job: JobMaker) -> None:
    """The patience of each begins with its turn: a thousand at once would take each other's time, and be "away"."""
    crowd = Crowd()
    servers = [Slow(crowd, number) for number in range(SERVERS)]
    examined = await examine(servers, prepared_of(job("http://server-0")).template)
    assert [one.server for one in examined] == [server.name for server in servers]
    assert all(one.ready for one in examined)
    assert crowd.now == 0
    assert 1 < crowd.most <= SERVERS / 2
