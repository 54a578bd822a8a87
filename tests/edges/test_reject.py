"""Rejecting by number: what deleting by hand does, with a reason, and only while nobody fills the folder."""

from __future__ import annotations

import pytest

from reggen.dataset.folder import Folder, held
from reggen.dataset.ledger import Ledger
from reggen.dataset.reject import purge, reject, slots
from reggen.dataset.study import study
from reggen.errors import Busy, JobError
from reggen.sim import Settings, serve
from tests.conftest import JobMaker, filled
from tests.invariants import assert_sound

QUICK = Settings(seconds=0.005)


async def test_a_rejected_image_is_made_again_with_the_same_prompt_and_another_seed(job: JobMaker) -> None:
    """Its picture is set aside, its caption and caches go, and nothing else is touched."""
    async with serve(QUICK) as sim:
        await filled(one := job(sim.url, captions={"write": "prompt"}))
        (brief,) = study(one, "test.toml")
        folder = one.dataset.folder
        (folder / "reg_002_0064x0064_sd.npz").touch()
        before = brief.plan.sample(1)
        assert reject(brief, slots(["2", "4-5"], 6), "ugly").aside == ("reg_002", "reg_004", "reg_005")
        left = sorted(file.name for file in folder.iterdir())
        assert left == [f"reg_00{n}.{kind}" for n in (1, 3, 6) for kind in ("caption", "png")]
        assert len(list((one.dataset.state / "rejected").iterdir())) == 3
        await filled(one)
        assert_sound(one)
        assert sim.count("POST", "/prompt") == 9
        ledger = Ledger.read(one.dataset.state / "ledger.sqlite")
        assert ledger is not None
        row = next(row for row in ledger.walk("done") if row.idx == 1)
        ledger.close()
        assert (row.take, row.positive) == (1, before.positive)
        assert row.seed == brief.plan.sample(1, 1).seed != before.seed


async def test_what_was_never_made_can_be_rejected_and_costs_no_seed(job: JobMaker) -> None:
    """The slot was empty: its first picture is still its first."""
    async with serve(QUICK) as sim:
        (brief,) = study(one := job(sim.url), "test.toml")
        found = reject(brief, [3], "why not")
        assert (found.aside, found.empty) == ((), ("reg_004",))
        await filled(one)
        assert_sound(one)
        ledger = Ledger.read(one.dataset.state / "ledger.sqlite")
        assert ledger is not None
        assert {row.take for row in ledger.walk("done")} == {0}
        ledger.close()


async def test_set_aside_pictures_stay_until_they_are_purged(job: JobMaker) -> None:
    """Somebody may change their mind."""
    async with serve(QUICK) as sim:
        await filled(one := job(sim.url))
        (brief,) = study(one, "test.toml")
        reject(brief, [0], "ugly")
        assert purge(brief) == 1
        assert purge(brief) == 0


def test_a_run_that_goes_on_is_not_disturbed(job: JobMaker) -> None:
    """It holds the dataset."""
    (brief,) = study(job(), "test.toml")
    with held(Folder(brief.job.dataset)), pytest.raises(Busy):
        reject(brief, [0], "ugly")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["17"], [16]),
        (["2", "4-6", "5"], [1, 3, 4, 5]),
        (["reg_007.png", "reg_009-reg_010"], [6, 8, 9]),
    ],
)
def test_numbers_as_people_write_them(words: list[str], found: list[int]) -> None:
    """One, several, ranges, and file names."""
    assert slots(words, 20) == found


@pytest.mark.parametrize("words", [["0"], ["21"], ["5-3"], ["x"], ["1", "two"]])
def test_what_is_no_number_of_an_image_is_told(words: list[str]) -> None:
    """With what there is."""
    with pytest.raises(JobError):
        slots(words, 20)
