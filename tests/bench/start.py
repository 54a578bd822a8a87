"""Start-up times: --help, and a run up to its first prompt.

    python -m tests.bench.start [--rounds 7]

CPU and wall seconds from the start of the process; beside them, in the same rounds, a python that does nothing and one
that only imports aiohttp, which every client of ComfyUI needs. The run is of a new dataset of ten images, and
its first prompt is seen where it arrives: at a stand-in in the process that measures. A first round fills the caches
and is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.facts import machine, versions
from tests.bench.jobs import write_job
from tests.bench.runs import cpu_of_command, first_post

_GOALS = {"python -m reggen --help": {"CPU, s": 0.25}, "reggen run, to the first POST": {"s": 0.6}}


def run_to_first_post() -> tuple[float, float]:
    """Wall and CPU seconds of a run up to its first prompt."""
    with tempfile.TemporaryDirectory(prefix="start-") as name:
        found = first_post(write_job(Path(name) / "start.toml", count=10), Path(name) / "run.log")
    return found.wall, found.cpu


def measure(rounds: int) -> dict[str, Any]:
    """Measure all sides in turn, so that a noisy moment meets them all."""
    sides: Mapping[str, Callable[[], tuple[float, float]]] = {
        "python -c pass": lambda: cpu_of_command(["-c", "pass"]),
        "python -c 'import aiohttp'": lambda: cpu_of_command(["-c", "import aiohttp"]),
        "python -m reggen --help": lambda: cpu_of_command(["-m", "reggen", "--help"]),
        "reggen run, to the first POST": run_to_first_post,
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            one = side()
            if number:
                found[name].append(one)
    return {
        "benchmark": "from the start of the process",
        "goals": _GOALS,
        **{
            name: {
                "s": round(median(wall for wall, _ in times), 3),
                "CPU, s": round(median(cpu for _, cpu in times), 3),
                "rounds, CPU, s": [round(cpu, 3) for _, cpu in times],
            }
            for name, times in found.items()
        },
        "load average at the end": round(os.getloadavg()[0], 1),
        "machine": machine(),
        "versions": versions(),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.start", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    print(json.dumps(measure(parser.parse_args().rounds), indent=2))


if __name__ == "__main__":
    main()
