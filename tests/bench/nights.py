"""Cost of faults beyond themselves: the share of the servers' available time that became images that were kept.

    python -m tests.bench.nights [--hours 8] [--servers 2] [--seconds 0.2] [--real 10] [--rounds 3]

The night is compressed: an image takes ``--seconds`` on the stand-in where a real one takes ``--real``, and the
faults come more often by the same factor, which the output names. Each server is restarted once an hour and
is down for 20 s, its sockets drop every ten minutes, 1 % of the prompts fail and 0.5 % of the pictures are black.
reggen's own pauses (reconnects, rests, looks) are real seconds and are not compressed, so a high factor
exaggerates what they cost; ``--seconds 1`` makes it ten.

*Available* is the window times the servers, less the time they were down and the time they spent on prompts that
the faults spoilt, by the stand-ins' own records. *Useful* is the time they spent on prompts whose pictures were kept
and are good. The window opens with the first prompt that runs and is of fixed length; prompts are cut at its edges.
The other side, at the same time and under the same faults on stand-ins of its own, is a plain client: post, ask
/history every second (compressed, too), download, skip what fails.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from reggen.dataset.ledger import Ledger
from reggen.job.loader import load
from reggen.job.models import Job
from tests.bench.facts import machine, versions
from tests.bench.jobs import write_job
from tests.bench.night_servers import CompressedNight, ServerRecord, stand_ins
from tests.preparing import plan_of, prepared_of

_STARTING, _LEAVING = 60.0, 120.0  # seconds


# ---- the two sides

Leave = Callable[[], set[str]]
"""Ends a client once its prompts in flight are done; returns the ids of those whose pictures it kept."""


def job_of(night: CompressedNight, place: Path) -> tuple[Path, Job]:
    """The job's file, and the job."""
    file = write_job(place / "night.toml", count=night.count)
    return file, load(str(file))


def reggen(night: CompressedNight, urls: Sequence[str], place: Path, stack: ExitStack) -> Leave:
    """The real command line, in a process of its own, with the limits that a job has when it names none."""
    file, job = job_of(night, place)
    log = stack.enter_context((place / "reggen.log").open("w", encoding="utf-8"))
    words = [word for url in urls for word in ("--server", url)]
    command = [sys.executable, "-m", "reggen", "run", str(file), "--plain", *words]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    stack.callback(process.kill)

    def leave() -> set[str]:
        process.send_signal(signal.SIGINT)
        code = process.wait(_LEAVING)
        if code != 130:
            sys.exit(f"reggen ended with {code}: {(place / 'reggen.log').read_text(encoding='utf-8')[-2000:]}")
        ledger = Ledger.read(job.dataset.state)
        assert ledger is not None
        with ledger:
            return {row.prompt_id for row in ledger.slots.walk("done") if row.prompt_id}

    return leave


def plain(night: CompressedNight, urls: Sequence[str], place: Path, stack: ExitStack) -> Leave:
    """One plain client for each server, also in a process of its own."""
    _, job = job_of(night, place)
    made_of = prepared_of(job).template
    graphs = [made_of.bind(order, f"plain/{order.seed}") for order in plan_of(job).requests(0, night.count, {}, ())]
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    args = (urls, [graphs[number :: len(urls)] for number in range(len(urls))], 1 / night.factor, there)
    process = context.Process(target=_plain, args=args, daemon=True)
    process.start()
    stack.callback(process.terminate)

    def leave() -> set[str]:
        here.send("enough")
        kept: set[str] = here.recv()
        return kept

    return leave


def _plain(urls: Sequence[str], graphs: Sequence[Sequence[Any]], pause: float, pipe: Connection) -> None:
    stop, kept = threading.Event(), set[str]()
    loops = [
        threading.Thread(target=_loop, args=(url, own, pause, stop, kept))
        for url, own in zip(urls, graphs, strict=True)
    ]
    for loop in loops:
        loop.start()
    pipe.recv()
    stop.set()
    for loop in loops:
        loop.join()
    pipe.send(kept)


def _loop(url: str, graphs: Sequence[Any], pause: float, stop: threading.Event, kept: set[str]) -> None:
    """A client as people write it in an afternoon, and leave running overnight."""
    for graph in graphs:
        if stop.is_set():
            return
        try:
            prompt_id = json.loads(_request(f"{url}/prompt", {"prompt": graph}))["prompt_id"]
            while prompt_id not in (found := json.loads(_request(f"{url}/history/{prompt_id}"))):
                time.sleep(pause)
            outputs = found[prompt_id]["outputs"].values()
            for image in [image for output in outputs for image in output.get("images", ())]:
                _request(f"{url}/view?{urllib.parse.urlencode(image)}")
                kept.add(prompt_id)
        except (OSError, ValueError, KeyError):
            time.sleep(pause)  # skip it


def _request(url: str, body: Mapping[str, Any] | None = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(url, data, timeout=30) as answer:
        content: bytes = answer.read()
        return content


# ---- the sum


@dataclass(frozen=True, slots=True)
class Side:
    """One side of one round, in seconds of server time."""

    available: float
    useful: float
    down: float
    spoilt: float
    wasted: float
    idle: float
    gap: float
    good: int
    bad: int
    struck: dict[str, int]

    @classmethod
    def of(cls, records: Sequence[ServerRecord], kept: set[str], start: float, window: float) -> Side:
        """Compare the kept images with the records, inside the window."""

        def inside(begin: float, end: float) -> float:
            return max(0.0, min(end, start + window) - max(begin, start))

        ran = [one for record in records for one in record.executions]
        down = sum(inside(*span) for record in records for span in record.down)
        spoilt = sum(inside(one.start, one.end) for one in ran if one.spoilt)
        fine = [one for one in ran if not one.spoilt]
        useful = sum(inside(one.start, one.end) for one in fine if one.prompt_id in kept)
        wasted = sum(inside(one.start, one.end) for one in fine if one.prompt_id not in kept)
        available = window * len(records) - down - spoilt
        struck = sum((Counter(record.struck) for record in records), Counter[str]())
        return cls(
            available=available,
            useful=useful,
            down=down,
            spoilt=spoilt,
            wasted=wasted,
            idle=available - useful - wasted,
            gap=statistics.median(_gaps(records)),
            good=sum(one.prompt_id in kept for one in fine),
            bad=sum(one.spoilt != "" and one.prompt_id in kept for one in ran),
            struck=dict(struck),
        )

    def figures(self) -> dict[str, Any]:
        """The figures with their labels."""
        return {
            "useful / available": round(self.useful / self.available, 4),
            "available, s": round(self.available, 2),
            "useful, s": round(self.useful, 2),
            "lost: idle, s": round(self.idle, 2),
            "of that, each prompt's usual share: median gap before a prompt, ms": round(1000 * self.gap, 2),
            "lost: prompts that ran well and were not kept, s": round(self.wasted, 2),
            "taken by the faults: servers down, s": round(self.down, 2),
            "taken by the faults: spoilt prompts, s": round(self.spoilt, 2),
            "good images kept": self.good,
            "bad images kept": self.bad,
            "faults that struck": self.struck,
        }


def _gaps(records: Sequence[ServerRecord]) -> Iterator[float]:
    """Seconds from one prompt's end to the next one's start, on each server."""
    for record in records:
        for before, after in pairwise(record.executions):
            yield after.start - before.end


def both(night: CompressedNight) -> dict[str, Side]:
    """One round: the same night for both sides, at the same time."""
    found: dict[str, Side] = {}

    def live(name: str, client: Callable[[CompressedNight, Sequence[str], Path, ExitStack], Leave]) -> None:
        with ExitStack() as stack:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="night-")))
            servers = stack.enter_context(stand_ins(night))
            leave = client(night, servers.urls, place, stack)
            start = servers.began()
            time.sleep(max(0.0, start + night.window - time.monotonic()))
            kept = leave()
            found[name] = Side.of(servers.records(), kept, start, night.window)

    sides = [threading.Thread(target=live, args=pair) for pair in (("reggen", reggen), ("plain client", plain))]
    for side in sides:
        side.start()
    for side in sides:
        side.join()
    if len(found) < len(sides):
        sys.exit("a side has failed; its output is above")
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all rounds, each with chances of its own."""
    nights = [
        CompressedNight(options.servers, options.seconds, options.real, options.hours, seed)
        for seed in range(options.seed, options.seed + options.rounds)
    ]
    rounds = [both(night) for night in nights]
    first = nights[0]
    return {
        "benchmark": "share of the servers' available time that became good images that were kept",
        "goal": 0.99,
        **{
            name: {
                "useful / available, median": round(
                    statistics.median(one[name].useful / one[name].available for one in rounds), 4
                ),
                "rounds": [one[name].figures() for one in rounds],
            }
            for name in rounds[0]
        },
        "night": {
            "compressed by": first.factor,
            "of the night, hours": options.hours,
            "in fact, s": first.window,
            "an image, s": first.seconds,
            "restarts of each server": f"one an hour: every {3600 / first.factor:g} s, {20 / first.factor:g} s down",
            "socket drops of each server": f"one every ten minutes: every {600 / first.factor:g} s",
            "prompts": "1 % fail, 0.5 % are black",
            "not compressed": "reggen's own pauses: reconnects from 0.2 s, rests, looks",
            "servers": first.servers,
        },
        "machine": machine(),
        "versions": versions(),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.nights", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hours", type=float, default=8, help="of the night, before it is compressed")
    parser.add_argument("--servers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.2, help="an image takes on the stand-in")
    parser.add_argument("--real", type=float, default=10, help="seconds that a real image takes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1, help="of the first round's chances")
    print(json.dumps(measure(parser.parse_args()), indent=2))


if __name__ == "__main__":
    main()
