"""The registry of sockets, and the one task that sends every frame in order.

Like the server's, it sends one frame after another and waits for each, so that a client that stops
reading holds up all the others; and it knows sockets by client id only, so that a handler that ends
takes away whatever socket is registered under its id, even a newer one.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Awaitable, Callable
from typing import Any

from reggen.sim.faults.script import Fault
from reggen.sim.http.connections import ClientSocket
from reggen.sim.state.model import Frame, PictureFrame

Draw = Callable[[PictureFrame], Awaitable[bytes]]
Strikes = Callable[[str], list[Fault]]

GARBAGE: tuple[str | bytes, ...] = (
    "{not json",
    "[]",
    '"status"',
    '{"type": "unheard_of", "data": {"prompt_id": null}}',
    '{"type": "executing"}',
    '{"type": "progress", "data": null}',
    '{"no": "type"}',
    b"",
    b"\x00\x00",
    struct.pack(">I", 77) + b"?",
    struct.pack(">II", 4, 2**31) + b"{",
    struct.pack(">II", 3, 2) + b"\xff\xfe",
)
"""Frames that a client must survive."""


class Hub:
    """The sockets of one server, and the frames on their way to them."""

    def __init__(self, draw: Draw, strikes: Strikes) -> None:
        self._draw = draw
        self._strikes = strikes
        self.open: dict[ClientSocket, asyncio.BaseTransport | None] = {}
        """Every socket that is open, deaf ones included, and its connection."""
        self._registered: dict[str, ClientSocket] = {}
        self._with_metadata: set[str] = set()
        self._queue: asyncio.Queue[Frame | PictureFrame | str | bytes] = asyncio.Queue()

    def join(self, sid: str, socket: ClientSocket, transport: asyncio.BaseTransport | None) -> None:
        """Register an opened socket under its client id; an older one of the same id is sent nothing more."""
        self.open[socket] = transport
        self._registered[sid] = socket

    def leave(self, sid: str, socket: ClientSocket) -> None:
        """Forget a socket whose handler ends, and whatever is registered under its client id."""
        self._registered.pop(sid, None)
        self._with_metadata.discard(sid)
        self.open.pop(socket, None)

    def wants_metadata(self, sid: str) -> None:
        """Send previews of type 4 to this client, as it has asked for."""
        self._with_metadata.add(sid)

    def deafen(self) -> None:
        """Send nothing more to the sockets that are open now; they stay open."""
        self._registered.clear()

    def put(self, frame: Frame | PictureFrame | str | bytes) -> None:
        """Queue a frame; a plain string or bytes go to every socket as they are."""
        self._queue.put_nowait(frame)

    async def send_now(self, sid: str, event: str, data: dict[str, Any]) -> None:
        """Send one frame past the queue, as a handler does to its own socket."""
        await self._deliver(json.dumps({"type": event, "data": data}), self._targets(sid))

    async def publish(self, gate: asyncio.Event) -> None:
        """Send the queued frames until cancelled, while the gate is open."""
        while True:
            frame = await self._queue.get()
            await gate.wait()
            for _ in range(await self._copies(frame)):
                await self._send(frame)

    async def _copies(self, frame: Frame | PictureFrame | str | bytes) -> int:
        """The number of times to send a frame, after the delay that a fault may ask for."""
        if not isinstance(frame, Frame):
            return 1
        copies = 1
        for fault in self._strikes(frame.event):
            if fault.do == "delay":
                await asyncio.sleep(fault.seconds)
            else:
                copies = 0 if fault.do == "lose" else copies + 1
        return copies

    async def _send(self, frame: Frame | PictureFrame | str | bytes) -> None:
        if isinstance(frame, Frame):
            text = json.dumps({"type": frame.event, "data": frame.data})
            await self._deliver(text, self._targets(frame.to))
        elif isinstance(frame, PictureFrame):
            await self._show(frame)
        else:
            await self._deliver(frame, self._targets(None))

    async def _show(self, shown: PictureFrame) -> None:
        targets = self._targets(shown.to)
        if not targets:
            return
        image = await self._draw(shown)
        if shown.to in self._with_metadata and not shown.whole:
            metadata = json.dumps(_metadata(shown)).encode()
            await self._deliver(struct.pack(">II", 4, len(metadata)) + metadata + image, targets)
        else:
            kind = 2 if shown.whole else 1
            await self._deliver(struct.pack(">II", 1, kind) + image, targets)

    def _targets(self, to: Any) -> list[ClientSocket]:
        if to is None:
            return list(self._registered.values())
        found = self._registered.get(to) if isinstance(to, str) else None
        return [] if found is None else [found]

    async def _deliver(self, payload: str | bytes, targets: list[ClientSocket]) -> None:
        for socket in targets:
            if socket.closed:
                continue
            try:
                if isinstance(payload, str):
                    await socket.send_str(payload)
                else:
                    await socket.send_bytes(payload)
            except ConnectionError:
                continue  # it went away while we were sending; its handler cleans up


def huge_preview(size: int = 3_000_000) -> bytes:
    """A preview frame larger than the default limit of the `websockets` library."""
    return struct.pack(">II", 1, 1) + b"\xff\xd8\xff\xe0" + b"\x00" * size


def _metadata(shown: PictureFrame) -> dict[str, Any]:
    return {
        "node_id": shown.node_id,
        "prompt_id": shown.prompt_id,
        "display_node_id": shown.node_id,
        "parent_node_id": None,
        "real_node_id": shown.node_id,
        "image_type": "image/jpeg",
    }
