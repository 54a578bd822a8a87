"""A user's files: bounded reads, since a name may be a pipe or a disk image; whole writes; free names."""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

MIB = 1 << 20
_SHELL_PIPES = ("/dev/fd/", "/dev/stdin", "/proc/")  # where a shell puts the output of other programs


def opened(file: Path) -> BufferedReader:
    """Open a file for reading. Raises OSError, also for a pipe or a device, which may never answer or never end."""
    mode = file.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", str(file))
    return file.open("rb")


def text_of(file: Path, most: int, *, encoding: str = "utf-8-sig", piped: bool = False) -> str:
    """The text of a file, with newlines for line ends, and without a byte order mark unless ``encoding`` is "utf-8".

    Raises OSError, also for a pipe, a device and more than ``most`` bytes; UnicodeDecodeError. ``piped``: a pipe by
    which a shell passes the output of another program is read, too.
    """
    from_shell = piped and str(file).startswith(_SHELL_PIPES)
    with file.open("rb") if from_shell else opened(file) as stream:  # the size is not asked for: pipes have none
        data = stream.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most // MIB} MiB", str(file))
    return data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")


@contextmanager
def replacing(file: Path, *, part: Path | None = None, durable: bool = False) -> Iterator[BinaryIO]:
    """A stream whose bytes become ``file`` when the block ends: readers see the old content or the new, never a part.

    Until then they are in ``part``, by default a hidden file beside it, which is deleted when the block raises.
    ``durable``: the bytes reach the disk before the name points to them, so a power cut leaves no half file. Raises
    OSError.
    """
    part = part or file.with_name(f".{file.name}.part")
    try:
        with part.open("wb") as stream:
            yield stream
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        part.replace(file)
    except BaseException:  # a Ctrl-C as well: no part of a file is left
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def write_whole(file: Path, data: bytes, *, part: Path | None = None, durable: bool = False) -> None:
    """Replace a file in one step, as `replacing` does. Raises OSError."""
    with replacing(file, part=part, durable=durable) as stream:
        stream.write(data)


def flush_folder(path: Path) -> None:
    """Flush a folder's names to the disk, so that a rename survives a power cut. Raises OSError.

    Windows does it by itself and cannot be asked.
    """
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # some network filesystems
            raise
    finally:
        os.close(handle)


def free_name(folder: Path, name: str) -> Path:
    """A path in ``folder`` that does not exist: of ``name``, or of name-2, name-3 and so on, before the extension."""
    stem, dot, ending = name.partition(".") if not name.startswith(".") else (name, "", "")
    numbered = (f"{stem}-{number}{dot}{ending}" for number in itertools.count(2))
    return next(path for one in itertools.chain([name], numbered) if not os.path.lexists(path := folder / one))
