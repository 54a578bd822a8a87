"""Errors of the disk as StorageError, in words and with what to do about them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reggen.errors import StorageError

FOLDER_FOR_FILE = "it is a folder where a file belongs"
MOVE_AWAY = "move it elsewhere, then run the same command again"
"""The remedy for a file or folder that occupies the place of another."""

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_WORDS = {
    errno.ENOSPC: "the disk is full",
    errno.EROFS: "the disk is read-only",
    getattr(errno, "EDQUOT", errno.ENOSPC): "the disk is full, or the quota used up",
}


@contextmanager
def storage_errors(doing: str, path: Path) -> Iterator[None]:
    """Raise StorageError for every OSError of the block. ``doing`` is a verb for the message: "writing"."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, doing, path) from error


def storage_error(error: OSError, doing: str, path: Path) -> StorageError:
    """The StorageError for an error that came of ``doing`` something to ``path``. Blocking: it looks at the disk."""
    if blocker := _blocker(error, path):
        place, what = blocker
        return StorageError(str(place), doing, what, remedy=MOVE_AWAY)
    what = _WORDS.get(error.errno or 0) or error.strerror or str(error)
    return StorageError(str(path), doing, what, error.errno in _FULL)


def _blocker(error: OSError, path: Path) -> tuple[Path, str] | None:
    """A file where a folder belongs, or the reverse, and that in words; None where the error has another cause."""
    named = [Path(os.fsdecode(name)) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    named = named or [path]
    if isinstance(error, FileExistsError | NotADirectoryError | FileNotFoundError):
        places = named if isinstance(error, FileExistsError) else [above for one in named for above in one.parents]
        if file := next((one for one in places if os.path.lexists(one) and not one.is_dir()), None):
            return file, "it is a file where a folder belongs"
    if isinstance(error, IsADirectoryError) or (os.name == "nt" and isinstance(error, PermissionError)):
        folder = next((one for one in named if one.is_dir() and (os.name != "nt" or one != path)), None)
        return (folder, FOLDER_FOR_FILE) if folder else None
    return None
