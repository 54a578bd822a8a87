"""The reason for missing events, in words. Pure: ``now`` is handed in.

A socket that is cut is opened again at once, and prompts are polled meanwhile: one cut is not worth a word. A proxy
that cuts quiet sockets every few seconds does so all night: that is reported once.
"""

from __future__ import annotations

from collections import deque

_MANY = 3
_WITHIN = 300.0  # seconds
_UPGRADE = (
    " (does a proxy block WebSockets? nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; "
    'proxy_set_header Connection "upgrade";)'
)


class Disconnects:
    """The latest ends of the sockets to one server."""

    def __init__(self) -> None:
        self._cuts_at: deque[float] = deque(maxlen=_MANY)
        self._failure = self._often_cut = ""

    def cut(self, now: float, lived: float) -> None:
        """Note the end of a socket that was open for ``lived`` seconds."""
        self._failure = ""
        was_often = self._is_often(now)
        self._cuts_at.append(now)
        if not was_often:
            self._often_cut = (
                f"its connections for events are cut again and again, the last after {lived:.0f} s; prompts are polled "
                "meanwhile (is it a proxy's time-out? nginx: proxy_read_timeout 1h;)"
            )

    def failed(self, why: str) -> None:
        """Note that no socket could be opened, or that one heard nothing."""
        self._failure = why

    def opened(self) -> None:
        """Note that a socket is open."""
        self._failure = ""

    def why(self, now: float) -> str:
        """The reason for missing events; "" when none are missing, or hardly any."""
        if self._failure:
            return f"no events ({self._failure}); polling instead{_UPGRADE if 'HTTP' in self._failure else ''}"
        return self._often_cut if self._is_often(now) else ""

    def _is_often(self, now: float) -> bool:
        return len(self._cuts_at) == _MANY and now - self._cuts_at[0] < _WITHIN
