"""Nights of faults from fixed seeds, many at once; `python -m tests.chaos` runs as many as asked for."""

from __future__ import annotations

import os

import pytest

from tests.chaos.campaign import Work, nights
from tests.chaos.nights import EXCLUDED, night

NIGHTS: list[Work] = [*((seed, "cli") for seed in range(1, 9)), *((seed, "inprocess") for seed in range(1, 151))]
SHARES = 8  # each in a process of its own, which has some twenty nights at once
IN_PAIRS = [pytest.param(share, marks=pytest.mark.xdist_group(f"nights {share % 2}")) for share in range(SHARES)]
"""The shares, of which two run at a time: each keeps a core busy."""
pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send to one process")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("share", IN_PAIRS)
def test_no_night_is_lost(share: int) -> None:
    """Each image that could be made is there, whole and once, and what could not be made is named."""
    lost = [outcome for outcome in nights(NIGHTS[share::SHARES], jobs=1) if outcome.failure]
    words = (f"{one.kind} night {one.seed}: {one.failure}\nagain: {one.replay}" for one in lost)
    if lost:
        pytest.fail("\n\n".join(words), pytrace=False)


def test_a_night_follows_from_its_seed() -> None:
    """The same seed gives the same job, faults and breaks; another gives others."""
    assert night(7) == night(7)
    assert night(7) != night(8)
    assert night(7) != night(7, "cli")


def test_every_fault_has_its_nights() -> None:
    """Nothing that can go wrong is left out, except what is excluded by name."""
    seen = {fault.do for seed in range(300) for fault in night(seed).faults()}
    assert not seen & set(EXCLUDED)
    everything = {fault.do for seed in range(300) for fault in night(seed, also=EXCLUDED).faults()}
    assert everything == seen | set(EXCLUDED)
