"""All benchmarks of speed, one after another, as one table; each prints its own JSON when it is called alone.

    python -m tests.bench [--quick]

About a quarter of an hour; with ``--quick`` smaller ones for a first look, in a few minutes. REGGEN_LIVE_URL adds a
live ComfyUI to *busy*. The others: `flood`, `gates`, `nights`, `soak`, `writes`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from tests.bench.facts import machine, versions

Line = tuple[str, str, str]  # label, figure, goal


def run(name: str, *words: str, live: bool = False) -> Any:
    """The output of one benchmark, run in a process of its own so that none warms up another."""
    surroundings = {key: value for key, value in os.environ.items() if live or key != "REGGEN_LIVE_URL"}
    command = [sys.executable, "-m", f"tests.bench.{name}", *words]
    print(f"running {name} {' '.join(words)}", file=sys.stderr, flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=surroundings)
    return json.loads(done.stdout)


def busy(*, quick: bool) -> Iterator[Line]:
    """Wall / busy."""
    for seconds, images, goal in ((0.4, 50, "1.005"), (0.01, 500, "1.10")):
        found = run("busy", "--seconds", str(seconds), "--images", str(images // (2 if quick else 1)), "--rounds", "3")
        yield f"wall / busy, {found['server']}", both(found), goal
    if os.environ.get("REGGEN_LIVE_URL"):
        found = run("busy", "--images", "20", "--rounds", "3", live=True)
        yield f"wall / busy, {found['server']}, {found['graph']}", both(found), "1.005"


def both(found: Any) -> str:
    """The figure beside the bare side's."""
    return f"{found['reggen']['wall / busy']} (bare {found['bare, nothing downloaded']['wall / busy']})"


def floor(*, quick: bool) -> Iterator[Line]:
    """CPU of the controller."""
    for size in run("floor", "--images", "100" if quick else "300", "--rounds", "3")["sizes"]:
        ours, bare = size["reggen, ms an image"], size["bare loop, ms an image"]
        yield f"CPU an image, {size['picture']}", f"{ours['cpu']} ms (bare {bare['cpu']})", "2.0 times bare"
        yield f"loop an image, {size['picture']}", f"{ours['loop']} ms (bare {bare['loop']})", "1.3 times bare"


def others(*, quick: bool) -> Iterator[Line]:
    """The benchmarks whose results have many parts, printed whole."""
    calls = [
        ("fleet", "--servers", "10", "100", *([] if quick else ["1000"])),
        ("uneven",),
        ("start",),
        ("scale", "--done", "10000" if quick else "1000000", "--images", "200"),
    ]
    for name, *words in calls:
        yield name, json.dumps(run(name, *words), indent=1), ""


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    print(json.dumps({**machine(), **versions()}))
    for benchmark in (busy, floor, others):
        for label, figure, goal in benchmark(quick=quick):
            print(f"{label:<40} {figure}" + (f"   goal {goal}" if goal else ""), flush=True)


if __name__ == "__main__":
    main()
