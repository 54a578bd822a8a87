"""The prompts that wait, in the heap that the server keeps them in."""

from __future__ import annotations

import heapq
from typing import Any

from reggen.sim.state.model import QueuedPrompt


class PromptQueue:
    """A heap of (number, id, graph, extra, outputs), as in the server.

    Equal number and id make it compare graphs, which raises TypeError: in `push` after the prompt has been added,
    and once more in `pop`.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[Any, ...]] = []
        self._number = 0

    def __len__(self) -> int:
        return len(self._heap)

    def take_number(self, body: Any) -> float:
        """The place in the queue that a request gets: its own number, or the next one."""
        if "number" in body:
            return float(body["number"])
        number = self._number
        self._number += 1
        first = isinstance(body, dict) and body.get("front")
        return -number if first else number

    def push(self, prompt: QueuedPrompt) -> None:
        """Add a prompt."""
        heapq.heappush(self._heap, (prompt.number, prompt.prompt_id, prompt.graph, prompt.extra, prompt.outputs))

    def pop(self) -> QueuedPrompt:
        """Take the prompt with the lowest number."""
        return QueuedPrompt(*heapq.heappop(self._heap))

    def delete(self, prompt_id: Any) -> bool:
        """Remove one prompt with this id; False if there is none."""
        for position, entry in enumerate(self._heap):
            if entry[1] == prompt_id:
                del self._heap[position]
                heapq.heapify(self._heap)
                return True
        return False

    def clear(self) -> None:
        """Remove every prompt."""
        self._heap.clear()

    def prompts(self) -> list[QueuedPrompt]:
        """All prompts, in the order of the heap."""
        return [QueuedPrompt(*entry) for entry in self._heap]

    @property
    def next_seeds(self) -> set[int]:
        """The seeds in the graph of the prompt that is taken next."""
        return {*self._next_numbers("seed"), *self._next_numbers("noise_seed")}

    @property
    def next_batch(self) -> int:
        """The number of pictures that the next prompt makes."""
        return max(self._next_numbers("batch_size"), default=1)

    def _next_numbers(self, name: str) -> list[int]:
        """The whole numbers given as this input in the next prompt's graph."""
        graph = QueuedPrompt(*self._heap[0]).graph if self._heap else {}
        values = [node["inputs"].get(name) for node in graph.values()]
        return [value for value in values if isinstance(value, int)]
