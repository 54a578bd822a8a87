"""The log file of a run, written in a thread of its own: nobody who logs waits for a disk."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from logging.handlers import RotatingFileHandler
from pathlib import Path
from queue import SimpleQueue

_FLUSH_LIMIT = 2.0  # seconds that the end of a run waits for the rest of the log
_MOST_BYTES = 4 << 20  # of one file; the one before it is kept too


class _QuietFileHandler(RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        """Print nothing: a full disk must not fill the terminal too."""


class _BackgroundHandler(logging.Handler):
    """Hands records to another handler, which is opened and used in a thread of its own."""

    def __init__(self, open_handler: Callable[[], logging.Handler]) -> None:
        super().__init__()
        self._open_handler = open_handler
        self._records: SimpleQueue[logging.LogRecord | threading.Event | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record. logging holds this handler's lock meanwhile, so the thread is started once."""
        self._records.put(record)
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="reggen-log", daemon=True)
            self._thread.start()

    def _write(self) -> None:
        handler = self._open_handler()
        while entry := self._records.get():
            if isinstance(entry, threading.Event):
                entry.set()
            else:
                handler.emit(entry)  # not `handle`, whose lock would be held while a disk hangs
        handler.close()

    def flush(self) -> None:
        """Wait until everything is written, for at most two seconds. Python calls it at its exit too."""
        if self._thread and self._thread.is_alive():
            self._records.put(written := threading.Event())
            written.wait(_FLUSH_LIMIT)

    def close(self) -> None:
        """Write the rest, end the thread and close the file; waits for at most two seconds."""
        if self._thread:
            self._records.put(None)
            self._thread.join(_FLUSH_LIMIT)
        super().close()


class RunLog:
    """The log file of one class. It is bounded in size, and its failures never disturb the run."""

    def __init__(self, file: Path) -> None:
        # a logger of its own for each run, which does not join the root's handlers
        self._logger = logging.Logger("reggen.run")  # noqa: LOG001
        self._handler = _BackgroundHandler(partial(_file_handler, file))
        self._logger.addHandler(self._handler)

    def write(self, text: str) -> None:
        """Append a text, with the time before each of its lines."""
        for line in text.splitlines():
            self._logger.info(line)

    def close(self) -> None:
        """Write the rest and close the file. Blocking, for at most two seconds."""
        self._handler.close()


def _file_handler(file: Path) -> logging.Handler:
    handler = _QuietFileHandler(file, maxBytes=_MOST_BYTES, backupCount=1, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    return handler
