"""A few kills in mid-run; `python -m tests.chaos.kills` does as many as wanted."""

from __future__ import annotations

import os

import pytest

from reggen.sim import Settings
from tests.chaos.kills import Series, run_series

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send to one process")


async def test_a_killed_run_loses_nothing() -> None:
    """Its images stay as they are, and the next run makes just the rest."""
    series = await run_series(Series(1, "batch"), Settings(seconds=0.02), images=24, run_length=1.0, most=1)
    if series.failure:
        pytest.fail(series.line, pytrace=False)
    assert series.images == 24
