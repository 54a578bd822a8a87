"""The log file of a run, written in a thread of its own: nobody who logs waits for a disk."""

from __future__ import annotations

import logging
import threading
from logging.handlers import RotatingFileHandler
from pathlib import Path
from queue import SimpleQueue

_FLUSH_LIMIT = 2.0  # seconds that the end of a run waits for the rest of the log
_MOST_BYTES = 4 << 20  # of one file; the one before it is kept too


class _QuietFileHandler(RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        """Print nothing: a full disk must not fill the terminal too."""


class _BackgroundHandler(logging.Handler):
    """Hands records to another handler in a thread of its own."""

    def __init__(self, handler: logging.Handler) -> None:
        super().__init__()
        self._handler = handler
        self._records: SimpleQueue[logging.LogRecord | threading.Event] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record. logging holds this handler's lock meanwhile, so the thread is started once."""
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
        """Wait until everything is written, for at most two seconds. Python calls it at its exit too."""
        if self._thread:
            self._records.put(written := threading.Event())
            written.wait(_FLUSH_LIMIT)

    def close(self) -> None:
        """Flush and close the file."""
        self.flush()
        self._handler.close()
        super().close()


def open_log(file: Path) -> logging.Logger:
    """A logger for one run. The file is bounded in size, and its failures never disturb the run."""
    logger = logging.Logger("reggen.run")  # noqa: LOG001 - one for each run; it must not join the root's handlers
    handler = _QuietFileHandler(file, maxBytes=_MOST_BYTES, backupCount=1, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.addHandler(_BackgroundHandler(handler))
    return logger
