"""What the operating system lets one process have."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource
from reggen.cli.limits import allow_many_files

_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
allow_many_files()
soft, after = resource.getrlimit(resource.RLIMIT_NOFILE)
print(soft > 200 or hard == 200, after == hard)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sockets are no files there")
def test_the_limit_of_open_files_is_raised_as_far_as_it_goes() -> None:
    """A thousand servers need five thousand; the hard limit, which nobody gets back, stays as it is."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]
