"""The lock of a dataset: one run at a time, and another one is told which.

Two locks are held. The one on ``.reggen/.../lock`` works on every system; but somebody may delete that file, taking it
for a leftover, and another run would then lock a new file. So where the system can, the image folder itself is locked,
too: people do not delete the folder that their images are in.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import filelock

from reggen.dataset.folder import Folder
from reggen.dataset.storage import storage_errors
from reggen.errors import DatasetLocked

if sys.platform == "win32":

    def _lock(_: int, *, shared: bool) -> None:
        """Do nothing: Windows deletes no file that is open, so the locked file is enough."""

else:
    import fcntl

    def _lock(handle: int, *, shared: bool) -> None:
        """Lock an open file or folder. Raises OSError."""
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


@contextmanager
def locked(folder: Folder) -> Iterator[None]:
    """Hold the dataset for one run. Raises DatasetLocked, naming the holder, when another run has it; StorageError."""
    for needed in (folder.state, folder.images):
        with storage_errors("making", needed):
            needed.mkdir(parents=True, exist_ok=True)
    note = folder.state / "holder.txt"
    with ExitStack() as stack:
        with storage_errors("locking", folder.state):
            try:
                stack.enter_context(_folder_locked(folder.images))
                stack.enter_context(filelock.FileLock(folder.state / "lock", timeout=0))
            except filelock.Timeout:  # an OSError by ancestry, and no error of the disk
                raise DatasetLocked(str(folder.images), _holder(note)) from None
        try:
            with storage_errors("writing", note):
                note.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
            yield
        finally:
            with suppress(OSError):
                note.unlink()


def lock_holder(state: Path) -> str | None:
    """The process that fills the dataset with this state folder, in words; None when none does. Leaves no trace.

    The folder may be missing, or none of reggen's.
    """
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


def _holder(note: Path) -> str:
    try:
        return note.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return "a process that did not leave its name"
