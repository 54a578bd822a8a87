"""What the operating system lets one process have, and how it and Python's collector take it back."""

from __future__ import annotations

import gc
import sys

_ENOUGH = 65_536  # open files: a thousand servers need five thousand
_MOST_ON_MACOS = 10_240  # it refuses more, whatever it says
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGE = 256 << 10  # bytes: what asyncio has ready for one read from a socket, and shrinks to what came
_SELDOM = (20_000, 20, 20)  # objects that came and stayed, and collections of the young ones before the older ones
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


def collect_seldom() -> None:
    """Have the collector look for circles of objects a thirtieth as often, and never at what is there by now.

    It looks whenever so many objects have come to be, and what it looks through with a thousand servers takes it half
    a second, in which every one of them waits. Next to nothing that a run makes is a circle.
    """
    gc.freeze()  # what was imported stays
    gc.set_threshold(*_SELDOM)


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
