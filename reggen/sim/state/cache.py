"""The results of nodes that a server remembers, by signature.

By default a result survives only into a prompt that contains the same node again. With a size, that
many results are kept, the ones longest unused going first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Result = dict[str, Any] | None
"""The report of an output node (`{"images": [...]}`), or None for a node that reports nothing."""


class ExecutionCache:
    """Results by node signature. A prompt begins, looks results up, and puts in those of the nodes it ran."""

    def __init__(self, size: int = 0) -> None:
        self._size = size
        self._kept: dict[str, Result] = {}

    def __contains__(self, key: str | None) -> bool:
        return key in self._kept

    def begin(self, keys: Iterable[str]) -> None:
        """Start a prompt with these nodes: forget the results that neither it nor the size keeps."""
        wanted = {key: self._kept[key] for key in keys if key in self._kept}
        rest = {key: result for key, result in self._kept.items() if key not in wanted}
        room = max(0, self._size - len(wanted))
        survivors = list(rest.items())[-room:] if room else []
        self._kept = dict(survivors) | wanted

    def get(self, key: str) -> Result:
        """The result under a key that is in the cache."""
        return self._kept[key]

    def put(self, key: str, result: Result) -> None:
        """Remember the result of a node."""
        self._kept[key] = result

    def clear(self) -> None:
        """Forget everything, as /free with free_memory does."""
        self._kept.clear()
