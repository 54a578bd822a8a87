"""Answers that no ComfyUI gives, and that a client must survive: endless, malformed or misleading. No I/O."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator

from reggen.sim.http.reply import HttpReply

_HEAD = b'{"queue_running": [], "queue_pending": [], "error": "'
_PIECE = b"x" * (1 << 20)

ODD: dict[str, tuple[bytes, str]] = {
    "surrogate": (
        json.dumps({"error": "\ud800", "prompt_id": "\ud800", "queue_running": [[1, "\ud800"]]}).encode(),
        "application/json",
    ),
    "infinity": (b'{"exec_info": {"queue_remaining": Infinity}}', "application/json"),
    "digits": (b'{"exec_info": {"queue_remaining": ' + b"9" * 5_000 + b"}}", "application/json"),
    "deep": (b'{"a":' + b"[" * 200_000, "application/json"),
    "lists": (b'{"queue_running": 5, "queue_pending": {}}', "application/json"),
    "escapes": (b'{"error": {"message": "\\u001b[2J\\u202egnp", "details": ""}}', "application/json"),
    "bytes": (b"\xff\xfe\xfa", "application/json"),
    "empty": (b"", "application/json"),
}
"""Malformed bodies and their content types, by name."""


def odd(name: str) -> HttpReply:
    """The answer with this malformed body."""
    body, content_type = ODD[name]
    return HttpReply(200, body, content_type)


def flood(megabytes: int, *, packed: bool) -> Iterator[bytes]:
    """The pieces of a body that begins like an answer and is so many megabytes long; `packed`: as gzip."""
    packer = zlib.compressobj(1, wbits=31) if packed else None
    for piece in (_HEAD, *(_PIECE for _ in range(megabytes)), b'"}'):
        yield packer.compress(piece) if packer else piece
    if packer:
        yield packer.flush()
