"""Limits of this process: open files, memory that goes back to the system, and the pauses of Python's collector.

They concern the whole process, so that the command line sets them and the API leaves them alone.
"""

from __future__ import annotations

import gc
import sys

_ENOUGH = 65_536  # open files: a thousand servers need five thousand
_MOST_ON_MACOS = 10_240  # macOS refuses more, whatever its limit says
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGE = 256 << 10  # bytes: the buffer of asyncio for one read from a socket, which shrinks to what came
_YOUNG = 20  # objects for each server that may be made and kept until the collector runs
_OLDER = (20, 20)  # such runs before one over the older objects, and of these before one over all
_SPARE = 8 << 20  # bytes at the end of a heap that are kept, since they would be asked for again


def allow_many_files() -> None:
    """Raise the limit of open files as far as it goes: many systems begin with 1,024, or with 256."""
    if sys.platform == "win32":
        return  # sockets are not files there
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_ON_MACOS if sys.platform == "darwin" else _ENOUGH
    wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            return  # the limit stays as it was


def collect_seldom(servers: int) -> None:
    """Freeze loaded objects, and raise the collector's threshold with the number of servers.

    The objects that it looks through grow with the servers, and its runs with what they make: with a thousand servers
    it took a fifth of the time, half a second at once, in which all of them wait. A run creates almost no reference
    cycles, which are all that it looks for.
    """
    gc.freeze()
    if (young := _YOUNG * servers) > gc.get_threshold()[0]:
        gc.set_threshold(young, *_OLDER)


def give_back_memory() -> None:
    """Return large blocks to the system as soon as they are freed, where glibc allocates them; call it early.

    Left alone, glibc raises the size from which a block is given back, and keeps freed ones in a heap for each thread:
    a decoded picture here, a dict that was resized there. Objects that live long soon lie between them, and the
    process grows all night although nothing in it does.
    """
    if sys.platform != "linux":
        return
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGE)
    mallopt(_M_TRIM_THRESHOLD, _SPARE)
