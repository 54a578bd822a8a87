"""The state of one ComfyUI server: queue, history, cache, files. No I/O and no clock.

Every method takes the time of day where it matters and leaves the frames to be sent in `outbox`.
The order in which they are put there is the order in which they must leave.
"""

from __future__ import annotations

import random
import string
import uuid
from collections.abc import Generator
from typing import Any

from reggen.sim.settings import Settings
from reggen.sim.state.cache import ExecutionCache
from reggen.sim.state.disk import Disk
from reggen.sim.state.execution import Execution
from reggen.sim.state.history import History
from reggen.sim.state.model import Ending, Frame, Mishap, Pause, PictureFrame, QueuedPrompt, WorkerDiedError
from reggen.sim.state.queue import PromptQueue
from reggen.sim.state.reporter import Reporter
from reggen.sim.state.specs import Specs
from reggen.sim.state.validate import check

Answer = tuple[int, dict[str, Any]]


class World:
    """The state of one server process. `disk` outlives it, the temp files do not."""

    def __init__(self, settings: Settings, disk: Disk, rng: random.Random) -> None:
        self.settings = settings
        self.traits = settings.traits
        self.specs = Specs(settings)
        self.disk = disk
        self.disk.wipe_temp()
        self.outbox: list[Frame | PictureFrame] = []
        self.running: QueuedPrompt | None = None
        self.history = History(settings.history_limit)
        self.dead = False
        """The worker has ended: prompts are still accepted, and nothing runs any more."""
        self.interrupted = False
        """Somebody has asked the running prompt to stop."""
        self._rng = rng
        self.queue = PromptQueue()
        self._cache = ExecutionCache(settings.cache_lru)
        self._flags: dict[str, bool] = {}
        letters = "".join(rng.choices(string.ascii_lowercase, k=5))
        self._temp_prefix = f"ComfyUI_temp_{letters}"

    # Requests

    def submit(self, body: Any, now: float) -> Answer:
        """POST /prompt. Raises, for a 500, where the server fails: sometimes after it has queued the prompt."""
        number = self.queue.take_number(body)
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
        validation = check(graph, self.specs, self.traits, body.get("partial_execution_targets"))
        extra = body.get("extra_data", {})
        if "client_id" in body:
            extra["client_id"] = body["client_id"]
        if validation.error is not None:
            return 400, {"error": validation.error, "node_errors": validation.node_errors}
        if self.traits.create_time:
            extra["create_time"] = int(now * 1000)
        self.queue.push(QueuedPrompt(number, prompt_id, graph, extra, validation.outputs))
        self._queue_changed()
        return 200, {"prompt_id": prompt_id, "number": number, "node_errors": validation.node_errors}

    def _prompt_id(self, body: dict[str, Any]) -> str | None:
        """The id that this prompt gets; None if the one it came with is refused."""
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
        """Take one pending prompt with this id out of the queue; False if there is none."""
        found = self.queue.delete(prompt_id)
        if found:
            self._queue_changed()
        return found

    def clear(self) -> None:
        """Empty the queue; the running prompt goes on."""
        self.queue.clear()
        self._queue_changed()

    def interrupt(self, prompt_id: Any = None) -> bool:
        """Stop the running prompt, or only if it has this id. The next start clears the flag."""
        if prompt_id and self.traits.aimed_interrupt:
            return self.interrupt_if_running(prompt_id)
        self.interrupted = True
        return self.running is not None

    def interrupt_if_running(self, prompt_id: Any) -> bool:
        """Stop this prompt if it is the running one."""
        if self.running is None or self.running.prompt_id != prompt_id:
            return False
        self.interrupted = True
        return True

    def free(self, flags: dict[str, Any]) -> None:
        """Ask for memory to be freed, which the worker does before its next prompt."""
        self._flags = {name: bool(flags.get(name, False)) for name in ("unload_models", "free_memory")}

    def forget(self, prompt_id: str) -> None:
        """Remove every trace of a prompt that is not running."""
        while self.delete(prompt_id):
            pass
        self.history.pop(prompt_id, None)

    # Answers

    @property
    def pending(self) -> list[QueuedPrompt]:
        """The prompts that wait, in the order of the server's heap."""
        return self.queue.prompts()

    @property
    def remaining(self) -> int:
        """Pending and running prompts together."""
        return len(self.queue) + (self.running is not None)

    @property
    def status(self) -> dict[str, Any]:
        """The body of GET /prompt and of every `status` frame."""
        return {"exec_info": {"queue_remaining": self.remaining}}

    # The worker

    @property
    def has_work(self) -> bool:
        """True if the worker lives and a prompt waits or memory has to be freed."""
        return not self.dead and (len(self.queue) > 0 or any(self._flags.values()))

    def settle(self) -> None:
        """Free what /free asked for."""
        if self._flags.get("free_memory"):
            self._cache.clear()
        self._flags = {}

    def take(self) -> QueuedPrompt | None:
        """Start the next prompt and return it; None if there is none, or if the worker dies of it."""
        if self.dead or not self.queue:
            return None
        try:
            self.running = self.queue.pop()
        except TypeError:
            self.dead = True
            return None
        self._queue_changed()
        return self.running

    def execute(self, mishap: Mishap | None, now: float) -> Generator[Pause, float, Ending | None]:
        """Run the prompt taken last. Yields where time passes; ends with the history entry."""
        if self.running is None:
            raise RuntimeError("take a prompt first")
        self.interrupted = False
        execution = Execution(
            prompt=self.running,
            settings=self.settings,
            specs=self.specs,
            cache=self._cache,
            disk=self.disk,
            reporter=Reporter(self.running, self.settings, self.outbox),
            interrupted=lambda: self.interrupted,
            temp_prefix=self._temp_prefix,
            mishap=mishap,
        )
        try:
            ending = yield from execution.run(now)
        except WorkerDiedError:
            self.dead = True
            return None
        self._finish(execution.prompt, ending)
        return ending

    def _finish(self, prompt: QueuedPrompt, ending: Ending) -> None:
        self.running = None
        entry: dict[str, Any] = {
            "prompt": prompt.as_list(),
            "outputs": ending.outputs,
            "status": {
                "status_str": "success" if ending.success else "error",
                "completed": ending.success,
                "messages": ending.messages,
            },
        }
        if self.traits.display_nodes:
            entry["meta"] = ending.meta
        self.history.add(prompt.prompt_id, entry)
        self._queue_changed()
        client = prompt.extra.get("client_id")
        if client is not None:
            self.outbox.append(Frame("executing", {"node": None, "prompt_id": prompt.prompt_id}, client))

    def vanish(self) -> None:
        """Drop the running prompt without a trace."""
        self.running = None
        self._queue_changed()

    def _queue_changed(self) -> None:
        self.outbox.append(Frame("status", {"status": self.status}))


def is_canonical(value: Any) -> bool:
    """True if this is a UUID in the form that the server accepts."""
    try:
        return isinstance(value, str) and str(uuid.UUID(value)) == value
    except ValueError:
        return False


def _refusal(kind: str, message: str, details: str) -> dict[str, Any]:
    error = {"type": kind, "message": message, "details": details, "extra_info": {}}
    return {"error": error, "node_errors": {}}
