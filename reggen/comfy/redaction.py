"""Secrets removed from what a server says: some quote the headers that they refuse. Pure: no I/O."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, TypeVar

from reggen.errors import ReggenError

_SHORTEST_SECRET = 4  # characters; hiding shorter ones would garble ordinary text
_E = TypeVar("_E", bound=ReggenError)


def secret_forms(secrets: Iterable[str]) -> list[str]:
    """The forms in which a server may quote secrets, longest first: whole, word by word, and escaped for JSON."""
    words = {word for value in secrets for word in (value, *value.split()) if len(word) >= _SHORTEST_SECRET}
    return sorted(words | {json.dumps(word)[1:-1] for word in words}, key=len, reverse=True)


class Redactor:
    """Replaces secrets by ``***``; ``server`` is a server's name, in which nothing is replaced."""

    def __init__(self, server: str, secrets: Iterable[str]) -> None:
        self._server, self._secrets = server, secret_forms(secrets)

    def text(self, text: str) -> str:
        """The text without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def error(self, error: _E) -> _E:
        """An error of the same type, without secrets in its fields."""
        return type(error)(*map(self._field, error.args)) if self._secrets else error

    def _field(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(self._field, value))
        return self.text(value) if isinstance(value, str) and value != self._server else value
