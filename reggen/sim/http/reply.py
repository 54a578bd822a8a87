"""A request and its answer as plain values, so that routing can be tested without a socket."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request. `path` has lost its `/api`; header names are in lower case."""

    method: str
    path: str
    api: bool = False
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    at: float = 0.0
    """Time of arrival, in seconds since the epoch."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The path's segments."""
        return tuple(self.path.strip("/").split("/"))

    @property
    def target(self) -> str:
        """Path and query, as appended to an address."""
        return self.path + (f"?{urlencode(self.query)}" if self.query else "")

    def json(self) -> Any:
        """The body as JSON, whatever the content type says. Raises ValueError if it is none."""
        return json.loads(self.body.decode("utf-8"))


@dataclass(frozen=True, slots=True)
class HttpReply:
    """An answer. `prompt_id` is the prompt it is about, for the log of requests."""

    status: int
    body: bytes = b""
    content_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    prompt_id: str | None = None


def as_json(value: Any, status: int = 200, prompt_id: str | None = None) -> HttpReply:
    """A JSON answer."""
    return HttpReply(status, json.dumps(value).encode(), "application/json", {}, prompt_id)


def as_text(text: str, status: int) -> HttpReply:
    """A plain text answer."""
    return HttpReply(status, text.encode(), "text/plain")


SERVER_ERROR = as_text("500 Internal Server Error\n\nServer got itself in trouble", 500)
"""The answer of a server whose handler raised."""
