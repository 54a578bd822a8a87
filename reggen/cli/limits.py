"""What the operating system lets one process have."""

from __future__ import annotations

import sys

_ENOUGH = 65_536  # open files: a thousand servers need five thousand
_MOST_ON_MACOS = 10_240  # it refuses more, whatever it says


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
