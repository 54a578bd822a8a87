"""One reggen process against 10, 100, 1,000 servers: their busy share, and the process's own needs.

    python -m tests.bench.fleet [--servers 10 100 1000] [--seconds 5] [--images-per-server 12] [--size 64]

The stand-ins live in a few other processes, and *busy* is taken from the times in their histories. There are
three shares of a server's time. *Whole*: from the run's first post to its last durable commit, so with the ramp in
which a fleet gets its first prompts and the tail in which it has no more. *Steady*: from when every server has begun
until the last post, when each of them could be busy all the time. *Own*: from a server's first prompt to the end of
its last, which is what lies between prompts and nothing else.

reggen is the real command line, watched from inside (`tests.bench.watched`): the lag of its event loop is the delay
with which a task wakes that sleeps 10 ms at a time. Where the stand-ins share the cores with it, all of them are slow
together: "an image took" gives their real ``--seconds``, and their CPU stands beside reggen's. All servers are equally
fast, so at first they end together, in waves: the worst that can happen to the lag.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from tests.bench.facts import machine, versions
from tests.bench.jobs import write_job
from tests.bench.runs import run_watched
from tests.bench.servers import Span, kept, shared, spans_of, stand_ins
from tests.bench.watched import Watched

_GOALS = {"busy, steady, min": 0.98, "lag, steady, p99, ms": 50, "peak, MiB": 400}


@dataclass(frozen=True, slots=True)
class Timelines:
    """The spans of each server's prompts, in order."""

    spans: Mapping[str, Sequence[Span]]

    def busy(self, start: float, end: float) -> list[float]:
        """Each server's busy share of a period, the least busy first; empty for a period without length."""
        if end <= start:
            return []
        clipped = [
            sum(max(0.0, min(one.end, end) - max(one.start, start)) for one in spans) for spans in self.spans.values()
        ]
        return sorted(busy / (end - start) for busy in clipped)

    def own(self) -> list[float]:
        """Each server's busy share from its first prompt to the end of its last, the least busy first."""
        return sorted(
            sum(one.end - one.start for one in spans) / (spans[-1].end - spans[0].start)
            for spans in self.spans.values()
            if spans
        )

    @property
    def all_began(self) -> float:
        """Time at which the last of them began its first prompt; infinite if one never did."""
        return max(spans[0].start if spans else float("inf") for spans in self.spans.values())

    @property
    def seconds_each(self) -> float:
        """Median seconds of an image."""
        return median(one.end - one.start for spans in self.spans.values() for one in spans)

    @property
    def made(self) -> list[int]:
        """The number of prompts of each server, the fewest first."""
        return sorted(map(len, self.spans.values()))


def run_fleet(servers: int, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one point of the curve."""
    count = servers * options.images_per_server
    with tempfile.TemporaryDirectory(prefix="fleet-") as name:
        place = Path(name)
        with stand_ins(shared(servers, options.processes, options.seconds), place) as there:
            steps, servers_here = f"steps = {options.steps}", f"servers = {kept(there.urls)}"
            job_file = place / "fleet.toml"
            write_job(job_file, count=count, head=servers_here, size=options.size, sampling=steps)
            before = there.cpu
            seen = run_watched(job_file, place)
            theirs = there.cpu - before
            timelines = Timelines({url: spans_of(url) for url in there.urls})
    return figures(servers, seen, timelines, theirs, options)


def figures(
    servers: int, seen: Watched, timelines: Timelines, theirs: float, options: argparse.Namespace
) -> dict[str, Any]:
    """The figures of one point."""
    images = len(seen.committed)
    busy = {
        "steady": timelines.busy(timelines.all_began, seen.last_posted),
        "whole": timelines.busy(seen.posted, seen.committed[-1]),
        "own": timelines.own(),
    }
    return {
        "servers": servers,
        "images": images,
        "exit code": seen.exit_code,
        "images/s possible": servers / options.seconds,
        "images/s, whole": round(images / seen.wall, 2),
        **{f"busy, {name}, min": round(shares[0], 4) if shares else None for name, shares in busy.items()},
        **{f"busy, {name}, median": round(median(shares), 4) if shares else None for name, shares in busy.items()},
        "an image took, s": round(timelines.seconds_each, 3),
        "images of a server, fewest and most": [timelines.made[0], timelines.made[-1]],
        "start to first post, s": round(seen.posted - seen.began, 2),
        "first post to all busy, s": round(timelines.all_began - seen.posted, 2),
        "steady for, s": round(seen.last_posted - timelines.all_began, 2),
        **_lags("lag, steady", seen.lateness(timelines.all_began, seen.last_posted)),
        **_lags("lag, first post to all busy", seen.lateness(seen.posted, timelines.all_began)),
        **_lags("lag before the first post", seen.late_before),
        "peak, MiB": seen.peak_mib,
        "open files, most": seen.fds,
        "tasks, most": seen.tasks,
        "threads, most": seen.threads,
        "CPU of an image, reggen, ms": round(1000 * seen.cpu / images, 2),
        "CPU of an image, event loop alone, ms": round(1000 * seen.loop / images, 2),
        "CPU of an image, stand-ins, ms": round(1000 * theirs / images, 2),
        "cores, reggen": round(seen.cpu / seen.wall, 2),
        **({"profile of the event loop": seen.profile} if seen.profile else {}),
    }


def _lags(name: str, late: Sequence[float]) -> dict[str, float | None]:
    if len(late) < 2:
        return {f"{name}, ms": None}
    hundredths = quantiles(late, n=100, method="inclusive")
    found = {"p50": hundredths[49], "p99": hundredths[98], "max": max(late)}
    return {f"{name}, {which}, ms": round(1000 * seconds, 1) for which, seconds in found.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.fleet", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--servers", type=int, nargs="+", default=[10, 100, 1000], help="several give a curve")
    parser.add_argument("--seconds", type=float, default=5, help="that an image takes")
    parser.add_argument("--images-per-server", type=int, default=12)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20, help="each sends frames, at most ten times a second")
    parser.add_argument("--processes", type=int, default=4, help="of the stand-ins")
    parser.add_argument("--profile", type=int, default=0, help="functions of the event loop to name; slows it down")
    options = parser.parse_args()
    if not Path("/proc/self/fd").exists():
        sys.exit("this reads /proc, which this system does not have")
    os.environ["REGGEN_PROFILE"] = str(options.profile)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # for the stand-ins, which inherit it
    found = {
        "benchmark": "a fleet of stand-ins in other processes, kept busy by one process",
        "goals": _GOALS,
        "points": [run_fleet(servers, options) for servers in options.servers],
        "graph": f"{options.size} px, {options.steps} steps, {options.seconds} s an image",
        "load average at the end": round(os.getloadavg()[0], 1),
        "machine": machine(),
        "versions": versions(),
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
