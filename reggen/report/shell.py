"""Words of command lines that are printed for people."""

from __future__ import annotations

import shlex
import subprocess


def shell_word(text: str, *, windows: bool) -> str:
    """A word of a command line, quoted for a POSIX shell or, always in double quotes, for the shells of Windows.

    list2cmdline quotes only words with a space, but "&" and "," have a meaning for cmd and PowerShell too: so it is
    given one space more, which is taken away again.
    """
    if not windows:
        return shlex.quote(text)
    return '"' + subprocess.list2cmdline([f" {text}"]).removeprefix('" ')
