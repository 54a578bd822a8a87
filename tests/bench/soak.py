"""Memory and file descriptors of the real command line over hours of images at a high rate.

    python -m tests.bench.soak --minutes 120 [--servers 2] [--seconds 0.1] [--batch 1] [--faults] [--log FILE]

`python -m reggen run` fills a job whose count is far beyond reach; the stand-ins are processes of their own, so
that the figures are reggen's alone. A sample is taken every 30 s and, with ``--log``, appended to a file at
once, so that a soak that is interrupted leaves its samples. At the end Ctrl-C is sent once and the exit
code must be 130. The images of 64 px are 8 to 10 KB each; they go with the temporary folder, or stay with
``--root``. Needs /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import linear_regression, median
from typing import Any

from reggen.dataset.ledger import Ledger
from reggen.job.loader import load
from tests.bench.facts import machine, versions
from tests.bench.jobs import write_job

ENOUGH = 20_000
"""Images below which there is no verdict: warming up takes more memory than a leak would."""

STEEPEST = 32.0
"""KiB per 1,000 images: half of what one short string kept for each image would cost."""

_LEAVING = 120.0  # seconds from Ctrl-C to the end
_STARTING = 60.0  # seconds for a stand-in to be there

_FAULTS: dict[str, Any] = {
    "fault": [
        {"do": "drop", "on": "time", "every": 600},
        {"do": "fail", "chance": 0.01},
        {"do": "black", "chance": 0.005},
    ]
}


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample of the run: seconds since it began, images in the ledger, and the resources of the process."""

    at: float
    images: int
    rss_kib: int
    anonymous_kib: int
    fds: int
    threads: int
    stand_ins_rss_kib: int


def held_by(pid: int) -> tuple[int, int, int, int]:
    """KiB in RAM, those of them that no file backs, open file descriptors and threads of a process."""
    place = Path(f"/proc/{pid}")
    facts = dict(line.split(":", 1) for line in (place / "status").read_text(encoding="utf-8").splitlines())
    in_ram, anonymous = (int(facts[name].split()[0]) for name in ("VmRSS", "RssAnon"))
    return in_ram, anonymous, len(list((place / "fd").iterdir())), int(facts["Threads"])


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Kill a process at the end of the block if it still runs."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def stand_in(number: int, place: Path, options: argparse.Namespace, stack: ExitStack) -> tuple[int, str]:
    """Start one server, with chances of its own; its process id and its address."""
    script, said = place / f"faults-{number}.json", place / f"stand-in-{number}.log"
    script.write_text(json.dumps({"seed": number, **(_FAULTS if options.faults else {})}), encoding="utf-8")
    words = ("sim", "--port", "0", "--seconds", str(options.seconds), "--faults", str(script))
    process = stack.enter_context(ended(_reggen(words, said)))
    deadline = time.monotonic() + _STARTING
    while "stand-in at " not in (text := said.read_text(encoding="utf-8")):
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"stand-in {number} did not start: {text}")
        time.sleep(0.05)
    return process.pid, text.split("stand-in at ")[1].split(";")[0].split()[0]


def _reggen(words: Sequence[str], said: Path) -> subprocess.Popen[str]:
    with said.open("w", encoding="utf-8") as log:
        command = [sys.executable, "-m", "reggen", *words]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, text=True)


class Soak:
    """One run of the command line, watched from outside."""

    def __init__(self, options: argparse.Namespace, place: Path, stack: ExitStack) -> None:
        self._options = options
        self.said, root = place / "reggen.log", Path(options.root) if options.root else None
        batch = f"batch = {options.batch}"
        job_file = write_job(place / "soak.toml", root=root, count=options.count, sampling=batch)
        self._state = load(str(job_file)).dataset.state
        servers = [stand_in(number, place, options, stack) for number in range(options.servers)]
        self._stand_ins = [pid for pid, _ in servers]
        words = ["run", str(job_file), "--plain", *(word for _, url in servers for word in ("--server", url))]
        self._began = time.monotonic()
        self._process = stack.enter_context(ended(_reggen(words, self.said)))
        self.samples: list[Sample] = []
        self.seconds = 0.0

    def watch(self) -> None:
        """Take samples until the time is up, or the run has ended, which it should not."""
        while self._process.poll() is None and self._elapsed < 60 * self._options.minutes:
            due = self._options.every * (len(self.samples) + 1)
            if self._elapsed < due:
                time.sleep(min(1.0, due - self._elapsed))
                continue
            self._take_sample()
        self.seconds = self._elapsed

    def leave(self) -> int | None:
        """Send Ctrl-C once; the exit code, or None if the run is still there long after that."""
        self._process.send_signal(signal.SIGINT)
        try:
            return self._process.wait(_LEAVING)
        except subprocess.TimeoutExpired:
            return None

    @property
    def images(self) -> int:
        """The number of images that are done by the ledger."""
        ledger = Ledger.read(self._state)
        if ledger is None:
            return 0
        with ledger:
            return ledger.slots.counts(self._options.count).get("done", 0)

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _take_sample(self) -> None:
        try:
            held = held_by(self._process.pid)
            others = sum(held_by(pid)[0] for pid in self._stand_ins)
        except (OSError, KeyError):
            return  # a process has ended; the loop finds out which
        self.samples.append(Sample(round(self._elapsed, 1), self.images, *held, others))
        if self._options.log:
            with Path(self._options.log).open("a", encoding="utf-8") as log:
                log.write(json.dumps(asdict(self.samples[-1])) + "\n")


def verdict(samples: Sequence[Sample]) -> dict[str, Any]:
    """Figures of the samples, and the verdict whether they are flat, with its rule."""
    last = [one for one in samples if one.at >= samples[-1].at / 4]
    slope = _slope([(one.images / 1000, one.rss_kib) for one in last])
    settled = [one for one in samples if one.at >= 60] or list(samples)
    quarter = max(1, len(last) // 3)
    creep = median(one.fds for one in last[-quarter:]) - median(one.fds for one in last[:quarter])
    flat = slope is not None and slope <= STEEPEST and creep <= 2
    return {
        "rss_kib": {"at 5 min": _at(samples, 300), "midway": _at(samples, samples[-1].at / 2), "end": last[-1].rss_kib},
        "of it no file's, KiB": {"first": samples[0].anonymous_kib, "end": last[-1].anonymous_kib},
        "slope, KiB per 1000 images, last three quarters": None if slope is None else round(slope, 2),
        "fds after the first minute": {"min": min(one.fds for one in settled), "max": max(one.fds for one in settled)},
        "fds, median of the last quarter less that of the second": creep,
        "threads": {"min": min(one.threads for one in settled), "max": max(one.threads for one in settled)},
        "stand-ins' rss_kib": {"first": samples[0].stand_ins_rss_kib, "end": last[-1].stand_ins_rss_kib},
        "verdict": "too short to say" if last[-1].images < ENOUGH else "flat" if flat else "not flat",
        "rule": f"flat: the fitted line of the last three quarters rises by at most {STEEPEST:.0f} KiB per 1000 images,"
        f" and the median of the descriptors by at most 2; no verdict below {ENOUGH} images",
    }


def _slope(points: Sequence[tuple[float, float]]) -> float | None:
    if len({x for x, _ in points}) < 2:
        return None
    return linear_regression(*zip(*points, strict=True)).slope


def _at(samples: Sequence[Sample], seconds: float) -> int | None:
    """The RSS in the first sample after so many seconds; None if the run was shorter."""
    return next((one.rss_kib for one in samples if one.at >= seconds), None)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Soak, and return the figures."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        soak = Soak(options, place, stack)
        soak.watch()
        code = soak.leave()
        tail = soak.said.read_text(encoding="utf-8").splitlines()[-8:]
        found = verdict(soak.samples) if soak.samples else {"verdict": "no sample was taken"}
        images, seconds = soak.images, soak.seconds
    return {
        "benchmark": "soak",
        "minutes": round(seconds / 60, 1),
        "servers": f"{options.servers} stand-ins, {options.seconds} s an image, batch {options.batch}",
        "faults": _FAULTS["fault"] if options.faults else "none",
        "images": images,
        "images per second": round(images / seconds, 2) if seconds else None,
        **found,
        "exit code after Ctrl-C": code,
        "last lines": tail,
        "machine": machine(),
        "versions": versions(),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--servers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.1, help="an image takes; servers / seconds is the rate")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--count", type=int, default=10_000_000, help="of the job: far beyond what can be reached")
    parser.add_argument("--every", type=float, default=30, help="seconds between samples")
    parser.add_argument("--faults", action="store_true", help="sockets drop every 10 min, 1 %% fail, 0.5 %% are black")
    parser.add_argument("--root", help="where the images stay; left out, they go with the temporary folder")
    parser.add_argument("--log", help="a JSONL file that samples are appended to as they are taken")
    return parser.parse_args()


def main() -> int:
    """Soak and print; 1 when the run ended early, left wrongly, or is not flat."""
    if not Path("/proc/self/fd").exists():
        sys.exit("the soak reads /proc, which this system does not have")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(os.EX_TEMPFAIL))  # so that what was started is ended too
    found = measure(_options())
    print(json.dumps(found, indent=2))
    return 0 if found["exit code after Ctrl-C"] == 130 and found["verdict"] != "not flat" else 1


if __name__ == "__main__":
    sys.exit(main())
