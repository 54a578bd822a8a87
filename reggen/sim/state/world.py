"""The state of one ComfyUI server: queue, numbers, history, cache, files. No I/O and no clock.

Every method takes the time of day where it matters and leaves the frames to be sent in `outbox`.
The order in which they are put there is the order in which they must leave.
"""

from __future__ import annotations

import heapq
import itertools
import random
import string
import uuid
from collections.abc import Generator
from typing import Any

from reggen.sim.settings import Settings
from reggen.sim.state.cache import ExecutionCache
from reggen.sim.state.disk import Disk
from reggen.sim.state.execution import Execution
from reggen.sim.state.model import Ending, Frame, Item, Mishap, Pause, Shown, WorkerDiedError
from reggen.sim.state.specs import Specs
from reggen.sim.state.validate import check

Answer = tuple[int, dict[str, Any]]


class World:
    """One server process, from its start to its end. `disk` outlives it, `temp` files do not."""

    def __init__(self, settings: Settings, disk: Disk, rng: random.Random) -> None:
        self.settings = settings
        self.traits = settings.traits
        self.specs = Specs(settings)
        self.disk = disk
        self.disk.wipe_temp()
        self.outbox: list[Frame | Shown] = []
        self.running: Item | None = None
        self.history: dict[str, dict[str, Any]] = {}
        self.dead = False
        """The worker has ended: prompts are still accepted, and nothing runs any more."""
        self._rng = rng
        self._number = 0
        self._pending: list[tuple[Any, ...]] = []
        self._cache = ExecutionCache(settings.cache_lru)
        self._interrupted = False
        self._flags: dict[str, bool] = {}
        letters = "".join(rng.choices(string.ascii_lowercase, k=5))
        self._temp_prefix = f"ComfyUI_temp_{letters}"

    # What clients ask for

    def submit(self, body: Any, now: float) -> Answer:
        """POST /prompt. Raises (a 500) on what the server chokes on, sometimes after queueing it."""
        number = self._take_number(body)
        if "prompt" not in body:
            return 400, _refusal("no_prompt", "No prompt provided", "No prompt provided")
        prompt_id = self._prompt_id(body)
        if prompt_id is None:
            details = "omit it to let the server generate one"
            details = f"prompt_id must be a UUID string in canonical lowercase hyphenated form; {details}"
            return 400, _refusal("invalid_prompt_id", "prompt_id must be a valid UUID", details)
        graph = body["prompt"]
        if not isinstance(graph, dict):
            raise TypeError("a prompt must be an object")
        verdict = check(graph, self.specs, self.traits, body.get("partial_execution_targets"))
        extra = body.get("extra_data", {})
        if "client_id" in body:
            extra["client_id"] = body["client_id"]
        if verdict.error is not None:
            return 400, {"error": verdict.error, "node_errors": verdict.node_errors}
        if self.traits.create_time:
            extra["create_time"] = int(now * 1000)
        # A heap of tuples, as in the server: equal number and id make it compare graphs, which raises
        # after the prompt has been added, and once more when the worker gets there.
        heapq.heappush(self._pending, (number, prompt_id, graph, extra, verdict.outputs))
        self._queue_changed()
        return 200, {"prompt_id": prompt_id, "number": number, "node_errors": verdict.node_errors}

    def _take_number(self, body: Any) -> float:
        if "number" in body:
            return float(body["number"])
        number = self._number
        self._number += 1
        first = isinstance(body, dict) and body.get("front")
        return -number if first else number

    def _prompt_id(self, body: dict[str, Any]) -> str | None:
        """The id this prompt will have; None if the one it came with is refused."""
        asked = body.get("prompt_id")
        minted = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        if self.traits.prompt_ids == "ignored":
            return minted
        if self.traits.prompt_ids == "any":
            return str(asked) if "prompt_id" in body else minted
        if asked is None:
            return minted
        return asked if is_canonical(asked) else None

    def delete(self, prompt_id: Any) -> bool:
        """Take one pending prompt with this id out of the queue."""
        for position, entry in enumerate(self._pending):
            if entry[1] == prompt_id:
                del self._pending[position]
                heapq.heapify(self._pending)
                self._queue_changed()
                return True
        return False

    def clear(self) -> None:
        """Empty the queue; the running prompt goes on."""
        self._pending.clear()
        self._queue_changed()

    def interrupt(self, prompt_id: Any = None) -> bool:
        """Stop what runs, or only if it has this id. The flag dies with the next start."""
        if prompt_id and self.traits.aimed_interrupt:
            return self.interrupt_if_running(prompt_id)
        self._interrupted = True
        return self.running is not None

    def interrupt_if_running(self, prompt_id: Any) -> bool:
        """Stop this prompt if it is the running one."""
        if self.running is None or self.running.prompt_id != prompt_id:
            return False
        self._interrupted = True
        return True

    def free(self, flags: dict[str, Any]) -> None:
        """Ask for memory; granted when the worker gets to it."""
        self._flags = {name: bool(flags.get(name, False)) for name in ("unload_models", "free_memory")}

    def forget(self, prompt_id: str) -> None:
        """Remove every trace of a prompt that is not running."""
        while self.delete(prompt_id):
            pass
        self.history.pop(prompt_id, None)

    # What clients see

    @property
    def interrupted(self) -> bool:
        """Whether somebody has asked the running prompt to stop."""
        return self._interrupted

    @property
    def pending(self) -> list[Item]:
        """What waits, in the order in which the heap holds it."""
        return [Item(*entry) for entry in self._pending]

    @property
    def remaining(self) -> int:
        """Pending and running prompts together."""
        return len(self._pending) + (self.running is not None)

    @property
    def status(self) -> dict[str, Any]:
        """The body of GET /prompt and of every `status` frame."""
        return {"exec_info": {"queue_remaining": self.remaining}}

    def page(self, max_items: int | None, offset: int) -> dict[str, Any]:
        """GET /history: the newest `max_items`, or those from `offset` on, oldest first."""
        if offset < 0 and max_items is not None:
            offset = len(self.history) - max_items
        stop = None if max_items is None else max(0, offset) + max(1, max_items)
        if max_items == 0 and offset >= len(self.history):
            return {}
        return dict(itertools.islice(self.history.items(), max(0, offset), stop))

    # What the worker does

    @property
    def has_work(self) -> bool:
        """Whether the worker would find something to do."""
        return not self.dead and (bool(self._pending) or any(self._flags.values()))

    def settle(self) -> None:
        """Grant what /free asked for."""
        if self._flags.get("free_memory"):
            self._cache.clear()
        self._flags = {}

    @property
    def next_seeds(self) -> set[int]:
        """The seeds in the graph of the prompt that is taken next."""
        return {*self._next_numbers("seed"), *self._next_numbers("noise_seed")}

    @property
    def next_batch(self) -> int:
        """How many pictures the prompt makes that is taken next."""
        return max(self._next_numbers("batch_size"), default=1)

    def _next_numbers(self, name: str) -> list[int]:
        graph = Item(*self._pending[0]).graph if self._pending else {}  # the head of the heap
        values = [node["inputs"].get(name) for node in graph.values()]
        return [value for value in values if isinstance(value, int)]

    def take(self) -> Item | None:
        """The next prompt, now running; None if there is none, or if the worker dies of it."""
        if self.dead or not self._pending:
            return None
        try:
            self.running = Item(*heapq.heappop(self._pending))
        except TypeError:
            self.dead = True
            return None
        self._queue_changed()
        return self.running

    def execute(self, mishap: Mishap | None, now: float) -> Generator[Pause, float, Ending | None]:
        """Run the prompt taken last. Yields where time passes; the history entry comes at the end."""
        if self.running is None:
            raise RuntimeError("take a prompt first")
        self._interrupted = False
        run = Execution(
            item=self.running,
            settings=self.settings,
            specs=self.specs,
            cache=self._cache,
            disk=self.disk,
            interrupted=lambda: self._interrupted,
            outbox=self.outbox,
            temp_prefix=self._temp_prefix,
            mishap=mishap,
        )
        try:
            ending = yield from run.go(now)
        except WorkerDiedError:
            self.dead = True
            return None
        self._finish(run.item, ending)
        return ending

    def _finish(self, item: Item, ending: Ending) -> None:
        self.running = None
        while len(self.history) >= self.settings.history_limit:
            del self.history[next(iter(self.history))]
        entry: dict[str, Any] = {
            "prompt": item.as_list(),
            "outputs": ending.outputs,
            "status": {
                "status_str": "success" if ending.success else "error",
                "completed": ending.success,
                "messages": ending.messages,
            },
        }
        if self.traits.display_nodes:
            entry["meta"] = ending.meta
        self.history[item.prompt_id] = entry
        self._queue_changed()
        client = item.extra.get("client_id")
        if client is not None:
            self.outbox.append(Frame("executing", {"node": None, "prompt_id": item.prompt_id}, client))

    def vanish(self) -> None:
        """Drop the running prompt without a trace, as if it had never been sent."""
        self.running = None
        self._queue_changed()

    def _queue_changed(self) -> None:
        self.outbox.append(Frame("status", {"status": self.status}))


def is_canonical(value: Any) -> bool:
    """Whether this is a UUID written the one way the server accepts."""
    try:
        return isinstance(value, str) and str(uuid.UUID(value)) == value
    except ValueError:
        return False


def _refusal(kind: str, message: str, details: str) -> dict[str, Any]:
    error = {"type": kind, "message": message, "details": details, "extra_info": {}}
    return {"error": error, "node_errors": {}}
