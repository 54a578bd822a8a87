"""Makespan of a fleet of fast and slow servers, against the best that any schedule could reach.

    python -m tests.bench.uneven [--fleet 4x0.2 2x0.4 1x1.6] [--images 100 110 120] [--rounds 3]

The makespan is from the first post to the last durable commit. The ideal is that of a perfect schedule, which
knows everything before it begins and loses nothing: the smallest time in which so many images can be finished, each
server making one after another. The excess is given in images of the slowest server. Stand-ins on busy cores are
slower than asked for, so the real time of an image on each server, by its own history, and the ideal for these times
are given as well. The stand-ins live in other processes. Several numbers of images are run, since a schedule may end
well by luck with one of them.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.facts import machine, versions
from tests.bench.jobs import write_job
from tests.bench.runs import run_watched
from tests.bench.servers import kept, spans_of, stand_ins

_GOAL = 1.0  # images of the slowest server


def ideal(seconds: Sequence[float], images: int) -> float:
    """The smallest time in which servers with these seconds an image can finish so many images."""
    ends = sorted(speed * number for speed in set(seconds) for number in range(1, images + 1))
    low, high = 0, len(ends) - 1
    while low < high:
        middle = (low + high) // 2
        if sum(int(ends[middle] / speed + 1e-9) for speed in seconds) >= images:
            high = middle
        else:
            low = middle + 1
    return ends[low]


@dataclass(frozen=True, slots=True)
class UnevenRound:
    """One run: its makespan, and for each server the seconds of an image, asked and real, and its images."""

    makespan: float
    asked: tuple[float, ...]
    real: tuple[float, ...]
    made: tuple[int, ...]

    def excess(self, seconds: Sequence[float]) -> float:
        """The time beyond the ideal of servers with these seconds an image, in images of the slowest."""
        return (self.makespan - ideal(seconds, sum(self.made))) / max(seconds)


def run_round(options: argparse.Namespace, images: int) -> UnevenRound:
    """Fill a new dataset on new servers."""
    groups: list[tuple[int, float]] = options.fleet
    with tempfile.TemporaryDirectory(prefix="uneven-") as name, stand_ins(groups, Path(name)) as there:
        job_file = write_job(Path(name) / "uneven.toml", count=images, head=f"servers = {kept(there.urls)}")
        seen = run_watched(job_file, Path(name))
        spans = [spans_of(url) for url in there.urls]
    asked = tuple(seconds for count, seconds in groups for _ in range(count))
    real = [
        median(one.end - one.start for one in own) if own else alone for own, alone in zip(spans, asked, strict=True)
    ]
    return UnevenRound(seen.wall, asked, tuple(real), tuple(map(len, spans)))


def figures(rounds: Sequence[UnevenRound]) -> dict[str, Any]:
    """Medians of the rounds with one number of images."""
    images = sum(rounds[0].made)
    return {
        "images": images,
        "ideal, s": round(ideal(rounds[0].asked, images), 3),
        "makespan, s": round(median(one.makespan for one in rounds), 3),
        "excess, images of the slowest": round(median(one.excess(one.asked) for one in rounds), 2),
        "the same, against the times they took in fact": round(median(one.excess(one.real) for one in rounds), 2),
        "makespans, s": [round(one.makespan, 3) for one in rounds],
        "an image took, first round, s": [round(seconds, 3) for seconds in rounds[0].real],
        "images of each, first round": rounds[0].made,
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure every number of images, in several rounds."""
    points = [figures([run_round(options, images) for _ in range(options.rounds)]) for images in options.images]
    return {
        "benchmark": "makespan of an uneven fleet, medians",
        "goal, excess in images of the slowest": _GOAL,
        "fleet": [f"{count} at {seconds} s an image" for count, seconds in options.fleet],
        "largest excess, images of the slowest": max(one["excess, images of the slowest"] for one in points),
        "points": points,
        "load average at the end": round(os.getloadavg()[0], 1),
        "machine": machine(),
        "versions": versions(),
    }


def _group(text: str) -> tuple[int, float]:
    count, _, seconds = text.partition("x")
    return int(count), float(seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.uneven", description=(__doc__ or "").splitlines()[0])
    fleet = [(4, 0.2), (2, 0.4), (1, 1.6)]
    parser.add_argument("--fleet", type=_group, nargs="+", default=fleet, metavar="COUNTxSECONDS")
    parser.add_argument("--images", type=int, nargs="+", default=[100, 110, 120])
    parser.add_argument("--rounds", type=int, default=3)
    print(json.dumps(measure(parser.parse_args()), indent=2))


if __name__ == "__main__":
    main()
