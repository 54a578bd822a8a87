"""The prompts that have ended, oldest first."""

from __future__ import annotations

import itertools
from typing import Any


class History(dict[str, dict[str, Any]]):
    """Entries by prompt id, as /history shows them; the oldest goes when there are more than `limit`."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def add(self, prompt_id: str, entry: dict[str, Any]) -> None:
        """Enter a prompt that has ended."""
        while len(self) >= self._limit:
            del self[next(iter(self))]
        self[prompt_id] = entry

    def page(self, max_items: int | None, offset: int) -> dict[str, Any]:
        """GET /history: the newest `max_items` if `offset` is negative, or those from `offset` on, oldest first."""
        if offset < 0 and max_items is not None:
            offset = len(self) - max_items
        stop = None if max_items is None else max(0, offset) + max(1, max_items)
        if max_items == 0 and offset >= len(self):
            return {}
        return dict(itertools.islice(self.items(), max(0, offset), stop))
