"""Files of a user's folders, read if they are some: what is named there may be a pipe, a device, or a disk image."""

from __future__ import annotations

import errno
import stat
from io import BufferedReader
from pathlib import Path

MIB = 1 << 20
_HANDED_OVER = ("/dev/fd/", "/dev/stdin", "/proc/")  # where a shell has the pipes of other programs


def opened(file: Path) -> BufferedReader:
    """A file to be read. Raises OSError, also for a pipe or a device: those may never answer, or never end."""
    mode = file.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "it is no file but a pipe or a device", str(file))
    return file.open("rb")


def text_of(file: Path, most: int, *, encoding: str = "utf-8-sig", piped: bool = False) -> str:
    """The text of a file, every end of a line a newline; a mark at its beginning is no text, but in plain "utf-8".

    Raises OSError, also for what is no file, or holds more than ``most`` bytes; UnicodeDecodeError. ``piped``: what
    a shell hands over from another program is waited for, too.
    """
    handed_over = piped and str(file).startswith(_HANDED_OVER)
    with file.open("rb") if handed_over else opened(file) as stream:  # not by its size: pipes have none
        data = stream.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most // MIB} MiB", str(file))
    return data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
