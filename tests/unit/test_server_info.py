"""Facts that a server states about itself."""

from __future__ import annotations

from typing import Any

import pytest

from reggen.comfy.server_info import read_free_memory


@pytest.mark.parametrize(
    ("devices", "left"),
    [
        ([{"vram_total": 100, "vram_free": 25}], 0.25),
        ([{"vram_total": 100, "vram_free": 50}, {"vram_total": 80, "vram_free": 0}], 0.0),
        ([{"vram_total": 0, "vram_free": 0}], None),
        ([{"vram_total": "24 GB", "vram_free": 1}, 3, {}], None),
        ([], None),
        (None, None),
    ],
)
def test_the_memory_of_the_fullest_device_counts(devices: Any, left: float | None):
    """A full one has nothing left; what a server does not say, or says oddly, is not known."""
    assert read_free_memory({"devices": devices}) == left
