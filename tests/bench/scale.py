"""A job of a million images: the time to start, resume and report its status, and the cost of one image in it.

    python -m tests.bench.scale [--plan 10000000] [--done 1000000] [--images 300] [--rounds 3]

*Plan*: job file to first request of a plan of so many samples, with prompts in a list, and with a template, a matrix
and forbidden words that are looked for in all prompts read before the start. *Curve*: with 100, 1,000, ... images
done in ledger and folder, ``--images`` more are made on a stand-in that takes no time, in another process; CPU and
wall of each, once a quarter of them is done and all that happens once has happened. *Resume* and *status*: at the last
point of the curve, the real command line from its start to the first POST /prompt that arrives, and to its end.
The images done there are made by `tests.bench.done`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from reggen.dataset.ledger import Ledger
from reggen.dataset.reconcile import missing_requests
from reggen.job.loader import load
from reggen.prepare.prepared_job import prepare
from tests.bench.done import Done
from tests.bench.facts import machine, versions
from tests.bench.jobs import PROMPTS, write_job
from tests.bench.runs import cpu_of_command, first_post, run_watched
from tests.bench.servers import stand_ins
from tests.bench.watched import peak_mib

_GOALS = {"plan, s": 1, "resume to first post, s": 3, "resume, peak MiB": 250, "status, s": 1, "curve": "flat"}

_TEMPLATE = '"a {red|blue|green|white|black} {cat|dog|bird|fox} {sitting|running|asleep} in {spring|summer|winter}"'
_MORE = '[matrix]\nsteps = [20, 28]\n[guard]\nforbid = ["red bandana", "white cloak"]\n'


# ---- the plan


def start_plan(job_file: str) -> dict[str, float]:
    """Times from a job file to the first request, in this process."""
    before, began = peak_mib(), time.perf_counter()
    (prepared,) = prepare(load(job_file), job_file)
    prepared_at = time.perf_counter()
    with tempfile.TemporaryDirectory() as state, Ledger.open(Path(state)) as ledger:
        next(missing_requests(ledger, prepared.plan))
    done = time.perf_counter()
    return {"s": done - began, "of it, preparing, s": prepared_at - began, "memory for it, MiB": peak_mib() - before}


def plans(options: argparse.Namespace, place: Path) -> dict[str, Any]:
    """Medians of the rounds, each a process of its own."""
    kinds = {"prompts in a list": (PROMPTS, ""), "template, matrix, forbidden words": (_TEMPLATE, _MORE)}
    found: dict[str, Any] = {}
    for name, (positive, more) in kinds.items():
        file = write_job(place / "plan.toml", count=options.plan, prompts=positive, tail=more)
        rounds = []
        for _ in range(options.rounds):
            command = [sys.executable, "-m", "tests.bench.scale", "--start-plan", str(file)]
            rounds.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
        found[name] = {key: round(median(one[key] for one in rounds), 3) for key in rounds[0]}
    return found


# ---- the curve, and the commands at its end


def curve(job_file: Path, done: Done, options: argparse.Namespace, place: Path) -> Iterator[dict[str, Any]]:
    """Costs of an image, decade by decade."""
    decades = (10**power for power in range(2, 12))
    points = sorted({options.done, *(one for one in decades if one <= options.done)})
    with stand_ins([(1, 0.0)], place) as there:
        limited = place / "limited.toml"
        words = f"servers = {json.dumps(there.urls)}\n{job_file.read_text('utf-8')}"
        limited.write_text(f"{words}[limits]\nprompts = {options.images}\n", "utf-8")
        for count in points:
            done.fill(count)
            seen = run_watched(limited, place)
            images = len(seen.committed)
            yield {
                "done before": done.images,
                "made": images,
                "CPU of an image, ms": _each(seen.cpu_committed),
                "of it, the event loop, ms": _each(seen.loop_committed),
                "wall of an image, ms": _each(seen.committed),
                "start to first post, s": round(seen.posted - seen.began, 2),
                "event loop blocked before it, longest, s": round(max(seen.late_before, default=0.0), 2),
                "peak, MiB": seen.peak_mib,
            }
            done.images += images


def _each(clock: Sequence[float]) -> float:
    """Milliseconds between commits, after the first quarter."""
    late = clock[len(clock) // 4 :]
    return round(1000 * (late[-1] - late[0]) / (len(late) - 1), 2)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything."""
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        place = Path(name)
        planned = plans(options, place)
        job_file = write_job(place / "scale.toml", count=2 * options.done + 1000)
        done = Done(load(str(job_file)), place)
        points = list(curve(job_file, done, options, place))
        posts = [first_post(job_file, place / "resume.log") for _ in range(options.rounds)]
        asked = [cpu_of_command(["-m", "reggen", "status", str(job_file)]) for _ in range(options.rounds)]
        megabytes = done.ledger.stat().st_size >> 20
    return {
        "benchmark": "the scale of a job",
        "goals": _GOALS,
        f"plan of {options.plan:,} samples to its first request": planned,
        "curve": points,
        f"resume with {done.images:,} done, to the first POST": {
            "s": round(median(one.wall for one in posts), 2),
            "CPU, s": round(median(one.cpu for one in posts), 2),
            "peak, MiB": round(max(one.peak_mib for one in posts), 1),
        },
        "status": {
            "s": round(median(wall for wall, _ in asked), 2),
            "CPU, s": round(median(cpu for _, cpu in asked), 2),
        },
        "ledger, MiB": megabytes,
        "load average at the end": round(os.getloadavg()[0], 1),
        "machine": machine(),
        "versions": versions(),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scale", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--plan", type=int, default=10_000_000, help="samples of the plan that is started")
    parser.add_argument("--done", type=int, default=1_000_000, help="where the curve ends, and what is resumed")
    parser.add_argument("--images", type=int, default=300, help="made at each point of the curve")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--start-plan", metavar="JOB", help=argparse.SUPPRESS)
    options = parser.parse_args()
    print(json.dumps(start_plan(options.start_plan) if options.start_plan else measure(options), indent=2))


if __name__ == "__main__":
    main()
