"""The cost of writing downloads through aiofiles: CPU per image of the whole way, against one call in a thread.

    python -m tests.bench.writes [--images 200] [--rounds 7] [--size 64 512 1024]

Both sides make whole datasets on the same stand-in, in turn, and differ in the saving of a download alone. The other
side is written here: a whole picture is written, hashed, decoded and checked in one call in a thread. aiofiles needs
three calls more for that: the file is opened, written and closed in calls of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import tempfile
import uuid
from collections.abc import AsyncIterable, Callable
from pathlib import Path
from statistics import median
from typing import Any, TypeVar
from unittest.mock import patch

from reggen.dataset.download import Downloads
from reggen.dataset.part import Part
from tests.bench.barest import Cost
from tests.bench.facts import machine, versions
from tests.bench.floor import job_for, reggen_round, side
from tests.bench.servers import stand_ins

Accepted = TypeVar("Accepted")


class OneCall(Downloads):
    """Everything that blocks in one call, without a thought for large pictures, errors and cancellation."""

    async def save(self, name: str, chunks: AsyncIterable[bytes], accept: Callable[[Part], Accepted]) -> Accepted:
        """Gather the picture, then write, hash and accept it."""
        data, path = bytearray(), self._parts / f"{name}.{next(self._trials)}.part"
        async for chunk in chunks:
            data += chunk

        def written() -> Accepted:
            path.write_bytes(data)
            return accept(Part(path, len(data), hashlib.sha256(data).hexdigest()))

        return await asyncio.get_running_loop().run_in_executor(self._checks, written)


async def measure_size(url: str, size: int, options: argparse.Namespace) -> dict[str, Any]:
    """Both sides in turn, with pictures of one size; the first round warms up."""
    sides: dict[type[Downloads], list[Cost]] = {Downloads: [], OneCall: []}
    for number in range(options.rounds + 1):
        for saver in list(sides)[:: 1 if number % 2 else -1]:
            with tempfile.TemporaryDirectory() as root, patch("reggen.engine.compose.Downloads", saver):
                job = job_for(url, root, size, options.images, uuid.uuid4().int % (1 << 50))
                cost = await reggen_round(job)
            if number:
                sides[saver].append(cost)
    ours, other = sides.values()
    return {
        "picture": f"{size}x{size}",
        "aiofiles, ms an image": side(ours),
        "one call, ms an image": side(other),
        "ratio of CPU": round(median(a.cpu / b.cpu for a, b in zip(ours, other, strict=True)), 3),
        "ratio of loop time": round(median(a.loop / b.loop for a, b in zip(ours, other, strict=True)), 3),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every size, one after another."""
    with tempfile.TemporaryDirectory() as place, stand_ins([(1, 0.0)], Path(place)) as there:
        (url,) = there.urls
        sizes = [asyncio.run(measure_size(url, size, options)) for size in options.size]
    return {
        "benchmark": "writes",
        "images": options.images,
        "sizes": sizes,
        "machine": machine(),
        "versions": versions(),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.writes", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, nargs="+", default=[64, 512, 1024])
    print(json.dumps(measure(parser.parse_args()), indent=2))


if __name__ == "__main__":
    main()
