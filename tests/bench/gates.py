"""Cost of the checks for each image, and their recall: python -m tests.bench.gates [--recall 200].

Both sides in one run: `inspect` with every check off, which only decodes, and with all of them on; then the search for
duplicates among many pictures, and the comparison with one candidate. Medians, in milliseconds. An image that takes
half a second may cost 50 ms.

With ``--recall N`` also: the number of copies found of N pictures of every kind, and of false alarms among ten times
as many different ones.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from reggen.images.check import CheckSettings, inspect, roughness
from reggen.images.compare import first_match
from reggen.images.phash import own_phash, phashes
from reggen.images.phash_index import PhashIndex
from tests.bench.facts import machine, versions
from tests.gallery import COPIES, picture, rehearsal

SIDES, SIZES = (512, 1024), (1_000, 10_000, 100_000)
PICTURES = 24
OFF = CheckSettings(None, black=False, flat=False, noise=False)
LEVELS = CheckSettings(None)
ALL = CheckSettings(None, duplicates=True)


def median(what: Callable[[int], object], times: int) -> float:
    """Median milliseconds of a call."""
    spent = []
    for number in range(times):
        begun = time.perf_counter()
        what(number)
        spent.append(1000 * (time.perf_counter() - begun))
    return round(statistics.median(spent), 2)


def costs(side: int, rounds: int) -> dict[str, float]:
    """Costs of one image of this size, with grain, so that decoding costs what it does with painted pictures."""
    with tempfile.TemporaryDirectory() as name:
        files = []
        for number in range(PICTURES):
            grain = Image.effect_noise((side, side), 12).convert("RGB")
            files.append(Path(name) / f"{number}.png")
            Image.blend(picture(number, side), grain, 0.2).save(files[-1])
        images = [Image.open(file).convert("RGB") for file in files]
        times = rounds * PICTURES
        without, levels, with_all = (median(_inspecting(files, one), times) for one in (OFF, LEVELS, ALL))
        return {
            "without gates: decoded": without,
            "with black, flat, noise": levels,
            "with all gates": with_all,
            "the gates' part": round(with_all - without, 2),
            "of these, noise": median(lambda n: roughness(images[n % PICTURES]), times),
            "of these, hashes": median(lambda n: phashes(images[n % PICTURES]), times),
            "closer look at one suspect": median(
                lambda n: first_match(files[n % PICTURES], [files[(n + 2) % PICTURES]]), times
            ),
        }


def _inspecting(files: list[Path], check_settings: CheckSettings) -> Callable[[int], object]:
    return lambda number: inspect(files[number % PICTURES], "a", check_settings)


def searches(rounds: int) -> dict[str, dict[str, float]]:
    """Costs of a search among many pictures, whose hashes are crossed from those of real ones."""
    kinds = {"all kinds": 1, "figures before white only": 2}
    return {
        kind: _search([phashes(picture(step * n, 256)) for n in range(200)], rounds) for kind, step in kinds.items()
    }


def _search(asked: list[tuple[int, ...]], rounds: int) -> dict[str, float]:
    chance, found = random.Random(1), {}
    for size in SIZES:
        index = PhashIndex(6)
        for number in range(size):
            one, two, mask = chance.choice(asked)[0], chance.choice(asked)[0], chance.getrandbits(64)
            index.add(number, one & mask | two & ~mask)
        found[f"{size:,}"] = median(_asking(index, asked), 60 * rounds)
    return found


def _asking(index: PhashIndex, asked: list[tuple[int, ...]]) -> Callable[[int], object]:
    return lambda number: index.find(asked[number % len(asked)])


def recall(make: Callable[[int], Image.Image], count: int) -> dict[str, Any]:
    """Copies found of `count` pictures, and false alarms among ten times as many different ones."""
    with tempfile.TemporaryDirectory() as name:
        return _recall(make, count, Path(name))


def _recall(make: Callable[[int], Image.Image], count: int, folder: Path) -> dict[str, Any]:
    index, suspects, alarms = PhashIndex(6), 0, 0
    for number in range(10 * count):
        image, file = make(number), folder / f"{number}.png"
        image.save(file, compress_level=1)
        suspected = index.find(found := phashes(image))
        suspects += len(suspected)
        alarms += first_match(file, [folder / f"{other}.png" for other in suspected]) is not None
        index.add(number, found[0])
    copies = {}
    for kind, copy in COPIES.items():
        copies[kind] = 0
        for number in range(count):
            (image := copy(make(number))).save(folder / "copy.png")
            found_it = number in index.find(phashes(image))
            copies[kind] += found_it and first_match(folder / "copy.png", [folder / f"{number}.png"]) is not None
    return {"different": 10 * count, "suspects": suspects, "false alarms": alarms, f"copies found of {count}": copies}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gates", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--recall", type=int, default=0)
    options = parser.parse_args()
    some = [picture(number) for number in range(8)]
    report: dict[str, Any] = {
        "benchmark": "gates, median ms for each image",
        **{f"{side}x{side}": costs(side, options.rounds) for side in SIDES},
        "search among": searches(options.rounds),
        "its own hash only, as of a training image": median(lambda n: own_phash(some[n % 8]), 100),
    }
    if options.recall:
        kinds = {"reg pictures": picture, "rehearsals": rehearsal}
        report["found"] = {kind: recall(make, options.recall) for kind, make in kinds.items()}
    print(json.dumps({**report, "machine": machine(), "versions": versions()}, indent=2))


if __name__ == "__main__":
    main()
