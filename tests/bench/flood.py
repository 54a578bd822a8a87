"""Peak memory of a run while a server sends endless answers.

    python -m tests.bench.flood [--megabytes 600]

`python -m reggen run` makes 20 images on a stand-in of its own process, which answers some requests of one kind with so
many megabytes, as success, as failure, and packed. The peak is that of the whole run; beside it one without a flood.
Needs wait4.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.bench.facts import machine, versions
from tests.bench.jobs import write_job
from tests.bench.soak import ended

_GOAL = 150
_UNIT = 1 << 20 if sys.platform == "darwin" else 1 << 10  # of ru_maxrss, in a MiB


def script(on: str, megabytes: int) -> str:
    """A fault script: five floods on one kind of request, from the second on, when the preflight is over."""
    ways = ((200, "false"), (500, "false"), (200, "true"), (500, "true"), (200, "false"))
    return "".join(
        f'[[fault]]\ndo = "flood"\non = "{on}"\nnth = {nth}\n'
        f"megabytes = {megabytes}\nstatus = {status}\npacked = {packed}\n"
        for nth, (status, packed) in enumerate(ways, 2)
    )


def peak(faults: str) -> tuple[float, int]:
    """Peak MiB of a run, and its exit code."""
    with tempfile.TemporaryDirectory(prefix="flood-") as name:
        place = Path(name)
        (place / "faults.toml").write_text(faults, encoding="utf-8")
        job = write_job(place / "flood.toml", count=20, tail="[limits]\nattempts = 20\nrequest = 60\n")
        command = [sys.executable, "-m", "reggen", "sim", "--port", "0", "--seconds", "0.05", "--faults"]
        command.append(str(place / "faults.toml"))
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, ended(server):
            assert server.stdout is not None
            url = next(
                word.rstrip(";") for line in server.stdout for word in line.split() if word.startswith("http://")
            )
            words = [sys.executable, "-m", "reggen", "run", str(job), "--server", url]
            with (place / "said").open("wb") as said:
                run = subprocess.Popen(words, stdout=said, stderr=said)
            _, status, used = os.wait4(run.pid, 0)
            run.returncode = os.waitstatus_to_exitcode(status)
            if run.returncode:
                print((place / "said").read_text(encoding="utf-8"), file=sys.stderr)
        return round(used.ru_maxrss / _UNIT, 1), run.returncode


def measure(megabytes: int) -> dict[str, Any]:
    """Measure every kind of request in turn."""
    calm, code = peak("")
    found: dict[str, Any] = {"no flood": {"peak, MiB": calm, "exit": code}}
    for on in ("history", "post", "queue", "view"):
        most, code = peak(script(on, megabytes))
        found[on] = {"peak, MiB": most, "over, MiB": round(most - calm, 1), "exit": code}
    return {"benchmark": f"answers of {megabytes} MB", "goal, MiB over": _GOAL, **found}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.flood", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=600)
    found = measure(parser.parse_args().megabytes)
    print(json.dumps({**found, "machine": machine(), "versions": versions()}, indent=2))


if __name__ == "__main__":
    main()
