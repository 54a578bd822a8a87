"""Who fills a dataset: one run at a time, and the others are told which.

Two locks are held. The one on ``.reggen/.../lock`` works on every system; but what lies there may be deleted by
somebody who takes it for a leftover, and another run would then lock a new file. So where the system can, the image
folder itself is locked, too: it is deleted by nobody whose images are in it.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import filelock

from reggen.dataset.folder import Folder, storage
from reggen.errors import DatasetLocked

if sys.platform == "win32":

    def _lock(_: int, *, shared: bool) -> None:
        """Windows deletes no file that is open, the one that is locked neither: that one is enough."""

else:
    import fcntl

    def _lock(handle: int, *, shared: bool) -> None:
        """Lock what is open. Raises OSError."""
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


@contextmanager
def held(folder: Folder) -> Iterator[None]:
    """Hold the dataset for one run. Raises DatasetLocked, naming the holder, when another run has it."""
    with storage("making", folder.state):
        folder.state.mkdir(parents=True, exist_ok=True)
    with storage("making", folder.images):
        folder.images.mkdir(parents=True, exist_ok=True)
    holder = folder.state / "holder.txt"
    with ExitStack() as stack:
        try:
            with storage("locking", folder.state):
                stack.enter_context(_folder_locked(folder.images))
                stack.enter_context(filelock.FileLock(folder.state / "lock", timeout=0))
        except filelock.Timeout:
            raise DatasetLocked(str(folder.images), _holder(holder)) from None
        try:
            with storage("writing", holder):
                holder.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
            yield
        finally:
            with suppress(OSError):
                holder.unlink()


def is_held(folder: Folder) -> str | None:
    """Who is filling the dataset now, in words; None when nobody is. Leaves no trace."""
    return holder_of(folder.state)


def holder_of(state: Path) -> str | None:
    """The same, of a state folder that may well be none of ours."""
    images = state.parent.parent / state.name
    try:
        with _folder_locked(images, shared=True), ExitStack() as stack:
            if (state / "lock").exists():
                stack.enter_context(filelock.FileLock(state / "lock", timeout=0))
    except filelock.Timeout:
        return _holder(state / "holder.txt")
    except OSError:
        return None
    return None


@contextmanager
def _folder_locked(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Lock a folder itself, where the system and the filesystem can. Raises filelock's Timeout where another has it."""
    if os.name == "nt" or not folder.is_dir():  # Windows opens no folder
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            _lock(handle, shared=shared)
        except BlockingIOError:
            raise filelock.Timeout(str(folder)) from None
        except OSError:  # some network filesystems lock files alone
            pass
        yield
    finally:
        os.close(handle)


def _holder(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return "a process that did not leave its name"
