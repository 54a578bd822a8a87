"""The limits of one process: open files, memory, the collector."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
from reggen.cli.process_limits import allow_many_files

_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
allow_many_files()
soft, after = resource.getrlimit(resource.RLIMIT_NOFILE)
print(soft > 200 or hard == 200, after == hard)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sockets are no files there")
def test_the_limit_of_open_files_is_raised_as_far_as_it_goes() -> None:
    """A thousand servers need five thousand; the hard limit, which cannot be raised again, stays as it is."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]


MEMORY = """
import sys
from threading import Thread
from reggen.cli.process_limits import give_back_memory

def held():
    with open("/proc/self/status", encoding="utf-8") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

if sys.argv[1] == "with":
    give_back_memory()
kept = []

def work():
    bytes(32 << 20)
    large = [b"x" * (2 << 20) for _ in range(20)]
    kept.append(b"x" * 100_000)
    del large

before = held()
for _ in range(3):
    one = Thread(target=work)
    one.start()
    one.join()
print(held() - before)
"""


@pytest.mark.skipif(sys.platform != "linux" or not platform.libc_ver()[0], reason="glibc's own ways")
def test_what_is_large_goes_back_to_the_system() -> None:
    """Although something small that is kept lies above it, and whichever thread had it."""
    grown = {}
    for how in ("without", "with"):
        done = subprocess.run([sys.executable, "-c", MEMORY, how], capture_output=True, text=True, check=True)
        grown[how] = int(done.stdout)
    assert 4 * max(grown["with"], 4096) < grown["without"], grown  # KiB


COLLECTING = """
import gc
from reggen.cli.process_limits import collect_seldom

before = gc.get_threshold()
collect_seldom(8)
few, frozen = gc.get_threshold(), gc.get_freeze_count()
collect_seldom(1000)
print(few == before, frozen > 1000, gc.get_threshold()[0] > before[0])
"""


def test_only_many_servers_change_how_often_the_collector_looks() -> None:
    """With a handful it is as Python has it, but for what was imported, which stays."""
    done = subprocess.run([sys.executable, "-c", COLLECTING], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "True"]
