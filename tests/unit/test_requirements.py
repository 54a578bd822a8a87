"""The room that a job asks for, in words."""

from __future__ import annotations

import pytest

from reggen.dataset.folder import Folder
from reggen.engine.requirements import demand_room, mib
from reggen.errors import StorageError
from tests.conftest import JobMaker


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 kB"),
        (1, "1 kB"),
        (655_360, "656 kB"),
        (1 << 20, "1 MiB"),
        (5 << 30, "5,120 MiB"),
        (10 << 30, "10.0 GiB"),
    ],
)
def test_a_size_is_said_so_that_two_can_be_told_apart(size: int, words: str) -> None:
    """A disk with less than 1 MiB may have less than is needed, or more."""
    assert mib(size) == words


def test_a_lack_of_room_is_told_with_both_sizes_and_what_to_do(job: JobMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command alone would end in the same way."""
    monkeypatch.setattr(Folder, "free_bytes", lambda _: 12_000)
    with pytest.raises(StorageError, match=r"about 656 kB are needed for 100 images, and 12 kB are free") as caught:
        demand_room(Folder(job().dataset), 100, need=655_360)
    assert "free some room there, or name a folder on another disk" in str(caught.value)
