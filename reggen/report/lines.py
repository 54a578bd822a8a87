"""One event, one line: for the log file, and for a terminal that is none."""

from __future__ import annotations

import logging
import threading
from logging.handlers import RotatingFileHandler
from pathlib import Path
from queue import SimpleQueue

from reggen.progress import (
    ImageSaved,
    Progress,
    PromptsTakenOver,
    RunEvent,
    RunPaused,
    RunStarted,
    RunStopping,
    Scanning,
    ServerChanged,
    ServersAwaited,
    SlotGivenUp,
    SlotsReopened,
    Trouble,
)


def line(event: RunEvent, state: Progress) -> str | None:
    """The event in words, given the state it led to; None for what only the live display shows."""
    text = _words(event, state)
    return " ".join(text.split()) if text is not None else None


def _words(event: RunEvent, state: Progress) -> str | None:
    match event:
        case Scanning():
            return looks(event)
        case RunStarted():
            already = f", {event.done} are there" if event.done else ""
            return f"{event.total} images wanted{already}; servers: {', '.join(event.servers)}"
        case ServerChanged():
            return f"{event.server} is {'ready' if event.up else 'away'}" + (f": {event.why}" if event.why else "")
        case PromptsTakenOver():
            return f"{event.server} still has {', '.join(event.names)} from an earlier run; taken over"
        case ImageSaved():
            busy = f" in {event.busy:.1f} s" if event.busy is not None else ""
            return f"{event.name} made on {event.server}{busy} ({state.done}/{state.total}{_left(event.at, state)})"
        case Trouble():
            return event.text
        case SlotGivenUp():
            return f"{event.name} is given up: {event.reason}"
        case SlotsReopened():
            return f"{', '.join(event.names)}: deleted or damaged since; made anew"
        case RunPaused() | ServersAwaited() | RunStopping():
            return _halted(event, state)
    return None


def looks(event: Scanning) -> str:
    """How far a look at many images is."""
    return f"looking at the images that lie there: {event.done:,} of {event.total:,}"


def _halted(event: RunPaused | ServersAwaited | RunStopping, state: Progress) -> str:
    match event:
        case RunPaused():
            return f"paused: {event.why}" if event.why else "going on"
        case ServersAwaited():
            if not event.why:
                return "a server can be used again"
            is_said = any(view.why and view.why in event.why for view in state.servers.values())  # of the server itself
            return "no server can be used; waiting for one" + ("" if is_said else f" ({event.why})")
        case RunStopping():
            return f"no new prompts: {event.why}"


def _left(at: float, state: Progress) -> str:
    eta = state.eta(at)
    return f", {span(eta)} left" if eta is not None else ""


def span(seconds: float) -> str:
    """A length of time as people say it: 8 s, 4 min 10 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if whole >= 10 or seconds == whole else f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


_MOMENT = 2.0  # seconds that the end waits for what is still to be logged


class _Quiet(RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        """Say nothing: a full disk must not fill the terminal too."""


class _Behind(logging.Handler):
    """Hands records to another handler in a thread of its own: whoever logs waits for no disk."""

    def __init__(self, handler: logging.Handler) -> None:
        super().__init__()
        self._handler = handler
        self._records: SimpleQueue[logging.LogRecord | threading.Event] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Called with this handler's lock held."""
        self._records.put(record)
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="reggen-log", daemon=True)
            self._thread.start()

    def _write(self) -> None:
        while True:
            entry = self._records.get()
            if isinstance(entry, threading.Event):
                entry.set()
            else:
                self._handler.emit(entry)  # not `handle`, whose lock would be held while a disk hangs

    def flush(self) -> None:
        """Wait until all is written, for a moment; at the exit Python calls it, too."""
        if self._thread:
            self._records.put(written := threading.Event())
            written.wait(_MOMENT)

    def close(self) -> None:
        """Flush it, and close the file."""
        self.flush()
        self._handler.close()
        super().close()


def open_log(file: Path) -> logging.Logger:
    """The run's log file. It never grows beyond a few megabytes, and its failures never disturb the run."""
    logger = logging.Logger("reggen.run")  # noqa: LOG001 - one for each run; it must not join the root's handlers
    handler = _Quiet(file, maxBytes=4 << 20, backupCount=1, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.addHandler(_Behind(handler))
    return logger
