"""What the operating system lets one process have, and how it and Python's collector take it back."""

from __future__ import annotations

import gc
import sys

_ENOUGH = 65_536  # open files: a thousand servers need five thousand
_MOST_ON_MACOS = 10_240  # it refuses more, whatever it says
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGE = 256 << 10  # bytes: what asyncio has ready for one read from a socket, and shrinks to what came
_YOUNG = 20  # objects for each server that may come to be and stay until the collector looks
_OLDER = (20, 20)  # such looks before one at the older ones, and of these before one at all
_SPARE = 8 << 20  # bytes at the end of a heap that are not given back only to be asked for again


def allow_many_files() -> None:
    """Raise the limit of open files as far as it goes: many systems begin with 1,024, or with 256."""
    if sys.platform == "win32":
        return  # sockets are no files there
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_ON_MACOS if sys.platform == "darwin" else _ENOUGH
    wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            return  # as it was


def collect_seldom(servers: int) -> None:
    """Have the collector never look at what is there by now, and with many servers look the less often at the rest.

    What it looks through grows with the servers, and how often it does with what they make: with a thousand of them it
    took a fifth of the time, half a second at once, in which every one of them waits. Next to nothing that a run makes
    is a circle of objects, which is all it looks for.
    """
    gc.freeze()  # what was imported stays
    if (young := _YOUNG * servers) > gc.get_threshold()[0]:
        gc.set_threshold(young, *_OLDER)


def give_back_memory() -> None:
    """Have what is large go back to the system as soon as it is freed, where glibc allots it; call it early.

    Left alone, glibc takes ever larger blocks for small ones, and keeps them in a heap for each thread: a decoded
    picture here, a table of Python's that was made anew there. What lives long soon lies between them, and in a long
    night a process grows in which nothing grows.
    """
    if sys.platform != "linux":
        return
    import ctypes

    try:
        allot = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl
        return
    allot(_M_MMAP_THRESHOLD, _LARGE)
    allot(_M_TRIM_THRESHOLD, _SPARE)
