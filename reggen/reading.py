"""A text file read whole, if it is one: what a job names may be a pipe, a device, or a disk image."""

from __future__ import annotations

import errno
from pathlib import Path

MIB = 1 << 20


def text_of(file: Path, most: int, *, encoding: str = "utf-8-sig", piped: bool = False) -> str:
    """The text of a file, every end of a line a newline; a mark at its beginning is no text, but in plain "utf-8".

    Raises OSError, also for what is no file, or holds more than ``most`` bytes; UnicodeDecodeError. ``piped``: what
    another program writes is waited for, too.
    """
    if not piped and file.exists() and not file.is_file() and not file.is_dir():
        raise OSError(errno.EINVAL, "it is no file but a pipe or a device", str(file))
    with file.open("rb") as stream:  # not by its size: pipes have none, and some devices never end
        data = stream.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most // MIB} MiB", str(file))
    return data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
