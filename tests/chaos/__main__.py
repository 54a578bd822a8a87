"""Nights of faults, as many as asked for:

    python -m tests.chaos --nights 1000 --seed 1 [--kind inprocess|cli|both] [--jobs 2] [--also zombie]

Each night is drawn from its seed alone. A night that fails is named with the command that repeats it; the exit code
is then 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable

from tests.chaos.campaign import nights
from tests.chaos.living import Outcome
from tests.chaos.nights import EXCLUDED, Kind

_KINDS: dict[str, tuple[Kind, ...]] = {"inprocess": ("inprocess",), "cli": ("cli",), "both": ("inprocess", "cli")}


def main() -> int:
    """Live through the nights that the command line asks for; 1 if one fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nights", type=int, default=100, help="how many, of each kind")
    parser.add_argument("--seed", type=int, default=1, help="of the first; the others follow")
    parser.add_argument("--kind", choices=_KINDS, default="inprocess")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--also", action="append", choices=EXCLUDED, default=[], help="a fault left out otherwise")
    options = parser.parse_args()
    seeds = range(options.seed, options.seed + options.nights)
    work = [(seed, kind) for seed in seeds for kind in _KINDS[options.kind]]
    return print_outcomes(nights(work, jobs=options.jobs, also=options.also), len(work), options.also)


def print_outcomes(outcomes: Iterable[Outcome], total: int, also: Iterable[str] = ()) -> int:
    """Print progress, every failure as it comes, and the sum; 1 if one failed."""
    began, ended = time.monotonic(), []
    shown = began
    words = "".join(f" --also {name}" for name in also)
    for outcome in outcomes:
        ended.append(outcome)
        if outcome.failure:
            print(f"\n{outcome.kind} night {outcome.seed} failed: {outcome.failure}\n  again: {outcome.replay}{words}")
        now = time.monotonic()
        if now - shown > 5 or len(ended) == total:
            shown = now
            print(_summary(ended, total, now - began), flush=True)
    failed = [outcome for outcome in ended if outcome.failure]
    if failed:
        print(f"failed: {', '.join(f'{one.kind} {one.seed}' for one in failed)}")
    return 1 if failed else 0


def _summary(ended: list[Outcome], total: int, seconds: float) -> str:
    failed = sum(bool(one.failure) for one in ended)
    facts = {
        "images": sum(one.images for one in ended),
        "given up": sum(one.given_up for one in ended),
        "runs": sum(one.runs for one in ended),
        "faults": sum(one.struck for one in ended),
    }
    longest = max(ended, key=lambda one: one.seconds)
    return (
        f"{len(ended)} of {total} nights, {failed} failed; {len(ended) / seconds:.1f} nights/s; "
        + ", ".join(f"{value:,} {name}" for name, value in facts.items())
        + f"; longest {longest.seconds:.0f} s ({longest.kind} {longest.seed})"
    )


if __name__ == "__main__":
    sys.exit(main())
