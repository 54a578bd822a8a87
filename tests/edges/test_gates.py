"""The gates in a whole run: what is turned away, why, and what becomes of its slot."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from PIL import Image

from reggen import progress
from reggen.dataset.folder import Folder
from reggen.dataset.rows import Rejection, Row
from reggen.job.models import Job
from reggen.sim import Fault, Script, Settings, paint, serve
from tests.chaos.disk import Recorder
from tests.conftest import JobMaker, filled
from tests.gallery import cut, jpeg
from tests.invariants import assert_sound, parts
from tests.ledgers import ledger_in
from tests.preparing import plan_of

QUICK = Settings(seconds=0.01)
LARGER = {"width": 128, "height": 128}


def rejections(job: Job) -> list[Rejection]:
    with ledger_in(Folder(job.dataset).state) as ledger:
        return list(ledger.rejections.walk())


def done(job: Job) -> list[Row]:
    with ledger_in(Folder(job.dataset).state) as ledger:
        return list(ledger.slots.walk("done"))


async def test_a_picture_that_comes_twice_is_made_again_with_another_seed(job: JobMaker) -> None:
    """The slot is done in its next take, and the ledger says what was turned away, from where, with which seed."""
    async with serve(Settings(seconds=0.01, same_every=3)) as sim:
        one = job(sim.url, dataset={"count": 9}, sampling={"seed": 0})
        result = await filled(one)
    assert (result.summary.made, result.summary.exit_code) == (9, 0)
    turned_away = rejections(one)
    [first] = {0, 3, 6} - {seen.idx for seen in turned_away}  # the one that was here first
    assert sorted((seen.idx, seen.take, seen.seed) for seen in turned_away) == [
        (idx, 0, idx) for idx in (0, 3, 6) if idx != first
    ]
    assert {seen.reason for seen in turned_away} == {f"is the same picture as reg_00{first + 1}"}
    assert {seen.server for seen in turned_away} == {sim.url.removeprefix("http://")}
    assert {row.idx for row in done(one) if row.take == 1} == {seen.idx for seen in turned_away}
    assert parts(one) == []
    pictures = {Image.open(file).tobytes() for file in one.dataset.folder.iterdir()}
    assert len(pictures) == 9


async def test_a_model_with_one_idea_is_given_up_within_the_limits(job: JobMaker) -> None:
    """One picture is kept, the others are named with the reason; the server is not called sick for it."""
    async with serve(Settings(seconds=0.01, same_every=1)) as sim:
        one = job(sim.url, dataset={"count": 4}, limits={"attempts": 2})
        result = await filled(one)
        assert sim.count("POST", "/prompt") == 1 + 3 * 2
        assert sim.count("POST", "/free") == 0
    assert (result.summary.made, result.summary.exit_code) == (1, 1)
    assert len(result.summary.given_up) == 3
    [kept] = {row.name for row in done(one)}
    assert all(f"is the same picture as {kept} (tried 2 times)" in given.reason for given in result.summary.given_up)
    assert [seen.take for seen in rejections(one)].count(1) == 3
    assert len(list(one.dataset.folder.iterdir())) == 1
    assert parts(one) == []


async def test_the_gate_can_be_turned_off(job: JobMaker) -> None:
    """Then nothing is compared, and nothing remembered."""
    async with serve(Settings(seconds=0.01, same_every=1)) as sim:
        one = job(sim.url, checks={"duplicates": False})
        result = await filled(one)
    assert result.summary.made == 6
    assert {row.likeness for row in done(one)} == {None}


async def test_a_later_run_knows_what_the_earlier_one_made(job: JobMaker) -> None:
    """The ledger holds the hashes."""
    async with serve(Settings(seconds=0.01, same_every=4)) as sim:
        await filled(job(sim.url, dataset={"count": 2}, sampling={"seed": 0}))
        more = job(sim.url, dataset={"count": 6}, sampling={"seed": 0}, limits={"attempts": 1})
        result = await filled(more)
    assert [given.name for given in result.summary.given_up] == ["reg_005"]
    assert "is the same picture as reg_001" in result.summary.given_up[0].reason
    assert all(row.likeness for row in done(more))


@pytest.mark.parametrize("kind", ["jpg", "webp"])
async def test_duplicates_are_found_in_other_formats_too(job: JobMaker, kind: str) -> None:
    """What is compared is what is kept; the one that is here first stays."""
    async with serve(Settings(seconds=0.01, same_every=1)) as sim:
        one = job(sim.url, dataset={"format": kind, "count": 2}, limits={"attempts": 1})
        result = await filled(one)
    assert "is the same picture as reg_00" in result.summary.given_up[0].reason


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "itself": lambda image: image,
    "JPEG": lambda image: jpeg(image, 60),
    "cut": lambda image: cut(image, 0.05, 0.3, 0.8),
}


@pytest.mark.parametrize("copy", COPIES)
async def test_a_near_duplicate_of_a_training_image_never_enters(job: JobMaker, tmp_path: Path, copy: str) -> None:
    """Prior preservation with the subject itself would teach the opposite."""
    one = job(sampling={**LARGER, "seed": 0})
    sample = plan_of(one).sample(2)
    train = tmp_path / "train" / "10_spyke" / "a.png"
    train.parent.mkdir(parents=True)
    train.write_bytes(paint(sample.positive or "", sample.seed, 128, 128))
    with Image.open(train) as image:
        COPIES[copy](image.convert("RGB")).save(train)
    async with serve(QUICK) as sim:
        one = job(sim.url, sampling={**LARGER, "seed": 0}, training={"folder": str(tmp_path / "train")})
        result = await filled(one)
    assert result.summary.exit_code == 0
    [seen] = rejections(one)
    assert (seen.idx, seen.take) == (2, 0)
    assert seen.reason.endswith("the training image train/10_spyke/a.png")
    assert_sound(one)


@pytest.mark.parametrize("copy", ["JPEG", "cut"])
async def test_a_near_duplicate_of_another_image_never_enters(job: JobMaker, copy: str) -> None:
    """Of one that lies there already, in whatever way it came there."""
    one = job(sampling={**LARGER, "seed": 0}, dataset={"count": 3}, prompts={"positive": "a cat"})
    match_of = plan_of(one).sample(1)
    folder = Folder(one.dataset)
    folder.prepare()
    folder.file("reg_001").write_bytes(paint(match_of.positive or "", match_of.seed, 128, 128))
    with Image.open(folder.file("reg_001")) as image:
        COPIES[copy](image.convert("RGB")).resize((128, 128)).save(folder.file("reg_001"))
    async with serve(QUICK) as sim:
        one = job(sim.url, sampling={**LARGER, "seed": 0}, dataset={"count": 3}, prompts={"positive": "a cat"})
        result = await filled(one)
    assert (result.summary.reconciled.adopted, result.summary.exit_code) == (["reg_001"], 0)
    assert [(seen.idx, seen.reason) for seen in rejections(one)] == [(1, "looks like reg_001")]


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        (Fault("black", on="start", nth=2), "is black"),
        (Fault("flat", on="start", nth=2), "is of one colour"),
        (Fault("noise", on="start", nth=2), "is nothing but noise"),
    ],
)
async def test_every_rejection_is_recorded(job: JobMaker, fault: Fault, word: str) -> None:
    """With its reason, and the slot is filled all the same."""
    async with serve(QUICK, script=Script((fault,))) as sim:
        result = await filled(one := job(sim.url))
    assert result.summary.exit_code == 0
    [seen] = rejections(one)
    assert seen.reason == word
    assert_sound(one)


@pytest.mark.parametrize("checks", [{"noise": False}, {"noise_level": 2.0}])
async def test_noise_is_kept_where_nobody_minds(job: JobMaker, checks: dict[str, object]) -> None:
    """The gate can be turned off, or its level raised."""
    async with serve(QUICK, script=Script((Fault("noise", on="start", nth=2),))) as sim:
        result = await filled(one := job(sim.url, checks=checks))
    assert (result.summary.made, rejections(one)) == (6, [])


async def test_a_caption_is_there_before_its_image_appears(job: JobMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """At no moment an image stands without it: a trainer that starts then would take the class tokens instead."""
    async with serve(QUICK) as sim:
        one = job(sim.url, captions={"write": "prompt", "extension": ".txt"})
        folder = Folder(one.dataset)
        folder.prepare()
        with ExitStack() as stack, monkeypatch.context() as patch:
            recorder = Recorder(folder, stack)
            recorder.watch(patch)
            await filled(one)
    images = 0
    for moment in recorder.moments:
        stems = [name.removesuffix(".png") for name in moment.names if name.endswith(".png")]
        images = max(images, len(stems))
        bare = [stem for stem in stems if not moment.contents.get(moment.names.get(f"{stem}.txt", 0))]
        assert not bare, moment.after
    assert images == 6


async def test_a_png_is_stripped_on_request_and_its_slot_stays_known(job: JobMaker) -> None:
    """The ledger knows its seed; the file itself no longer does."""
    async with serve(QUICK) as sim:
        one = job(sim.url, dataset={"metadata": "strip", "parameters": True})
        await filled(one)
        assert_sound(one)
        for row in done(one):
            with Image.open(one.dataset.folder / f"{row.name}.png") as image:
                assert set(image.info) == {"parameters"}
                assert f"Seed: {row.seed}, Size: 64x64, Model: AnythingXL_inkBase" in image.info["parameters"]
                assert str(image.info["parameters"]).startswith(f"{row.positive}\nNegative prompt: blurry\nSteps: 2, ")
        result = await filled(one)
    assert result.summary.made == 0
    committed = [event for event in result.events if isinstance(event, progress.ImageSaved)]
    assert committed == []
