"""Words for events that do not come. Pure: ``now`` is handed in.

A socket that is cut is opened again at once, and prompts are looked after meanwhile: one cut is not worth a word. A
proxy that cuts a quiet socket every few seconds does so all night: that is said once.
"""

from __future__ import annotations

from collections import deque

_MANY = 3
_UPGRADE = (
    " (does a proxy let no WebSocket through? nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; "
    'proxy_set_header Connection "upgrade";)'
)
_WITHIN = 300.0  # seconds


class Disconnects:
    """The latest endings of the sockets to one server."""

    def __init__(self) -> None:
        self._at: deque[float] = deque(maxlen=_MANY)
        self._unopened = self._often = ""

    def cut(self, now: float, lived: float) -> None:
        """A socket that was open for ``lived`` seconds is gone."""
        self._unopened = ""
        self._at.append(now)
        if self._is_often(now) and not self._often:
            self._often = (
                f"its connections for events are cut again and again, the last after {lived:.0f} s; what is missed is "
                "looked after (is it a proxy's time-out? nginx: proxy_read_timeout 1h;)"
            )

    def failed(self, why: str) -> None:
        """No socket could be opened, or it heard nothing."""
        self._unopened = why

    def opened(self) -> None:
        """A socket is open."""
        self._unopened = ""

    def why(self, now: float) -> str:
        """The reason for missing events, in words; empty when there is nothing to say."""
        if self._unopened:
            hint = _UPGRADE if "HTTP" in self._unopened else ""
            return f"no events ({self._unopened}); looking instead{hint}"
        if not self._is_often(now):
            self._often = ""
        return self._often

    def _is_often(self, now: float) -> bool:
        return len(self._at) == _MANY and now - self._at[0] < _WITHIN
