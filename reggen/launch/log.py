"""The log file of a child process."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_WINDOWS = os.name == "nt"
_TAIL = 1 << 14  # bytes of the log that are read for its last lines
_LINES, _WIDTH = 8, 200
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class ProcessLog:
    """The file that a process writes to by itself: a pipe would fill up as soon as nobody reads it."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path, self._limit = path, limit
        self._older = path.with_name(f"{path.name}.1")
        self._begin = 0  # where the output of the present process begins

    def open(self) -> BinaryIO:
        """Open it for the next process. Raises OSError."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._is_too_long():
            with suppress(OSError):  # Windows: somebody reads it
                self._path.replace(self._older)
        log = self._path.open("ab")
        self._begin = log.seek(0, os.SEEK_END)
        return log

    def cut(self) -> None:
        """Copy a log that is too long to NAME.1, and truncate it. Blocking. Windows cannot truncate it.

        It is not renamed, since the process keeps its handle. Output between copy and cut is lost.
        """
        if _WINDOWS or not self._is_too_long():
            return
        with suppress(OSError):  # on a full disk it is cut all the same
            shutil.copyfile(self._path, self._older)
        with suppress(OSError):
            os.truncate(self._path, 0)
            self._begin = 0

    def last_lines(self) -> str:
        """The last lines of the present process, without colours; "" when there are none."""
        try:
            with self._path.open("rb") as log:
                end = log.seek(0, os.SEEK_END)
                log.seek(max(self._begin, end - _TAIL))
                text = log.read(_TAIL).decode(errors="replace")
        except OSError:
            return ""
        lines = ("".join(filter(str.isprintable, line)).rstrip() for line in _ESCAPES.sub("", text).splitlines())
        last = [f"  | {line[:_WIDTH]}" for line in lines if line][-_LINES:]
        return "\n".join([f"The last lines of {self._path}:", *last]) if last else ""

    def _is_too_long(self) -> bool:
        try:
            return self._path.stat().st_size > self._limit
        except OSError:
            return False
