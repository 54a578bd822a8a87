"""Captions beside the images: those written by hand are never lost, and those of an earlier job can be rewritten."""

from __future__ import annotations

import shlex
import shutil
import tracemalloc
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reggen.cli import app
from reggen.dataset.caption_files import CaptionFiles
from reggen.dataset.captioning import rewrite_captions, supply_captions
from reggen.dataset.folder import Folder
from reggen.dataset.ledger import Ledger
from reggen.dataset.reject import reject
from reggen.dataset.rows import Row
from reggen.errors import StorageError
from reggen.job.models import Job
from reggen.prepare.prepared_job import prepare
from reggen.report.closing import format_closing, report_data
from reggen.sim import Settings, serve
from tests.conftest import JobMaker, filled
from tests.invariants import assert_sound
from tests.pictures import write

QUICK = Settings(seconds=0.005)
WRITTEN = {"write": "prompt", "extension": ".txt"}


def set_aside(job: Job) -> dict[str, str]:
    """The captions that were set aside: text by file name."""
    folder = job.dataset.state / "rejected"
    return {file.name: file.read_text(encoding="utf-8") for file in folder.glob("*.txt")} if folder.is_dir() else {}


@pytest.mark.parametrize("captions", [{}, WRITTEN], ids=["none", "prompt"])
async def test_a_caption_without_an_image_is_set_aside_when_its_slot_is_filled(
    job: JobMaker, captions: dict[str, str]
) -> None:
    """It was written by hand. The display, the summary and the report name it."""
    async with serve(QUICK) as sim:
        one = job(sim.url, captions=captions)
        write(one.dataset.folder / "reg_002.txt", "my own words")
        told = await filled(one)
        assert set_aside(one) == {"reg_002.txt": "my own words"}
        assert [note for note in told.notes if "reg_002.txt" in note and "rejected" in note]
        assert "reg_002.txt" in format_closing(told.summary)
        assert report_data(told.summary)["files_set_aside"] == ["reg_002.txt"]
        left = one.dataset.folder / "reg_002.txt"
        assert (left.read_text(encoding="utf-8") if left.exists() else "") == ("a dog" if captions else "")
        assert_sound(one)
        again = await filled(one)
        assert (again.summary.reconciled.displaced, again.notes) == ([], [])


async def test_a_caption_with_the_same_text_is_not_mentioned(job: JobMaker) -> None:
    """It stayed after its image was deleted; the new image has the same prompt, and nothing is set aside."""
    async with serve(QUICK) as sim:
        await filled(one := job(sim.url, captions=WRITTEN))
        (one.dataset.folder / "reg_002.png").unlink()
        write(one.dataset.folder / "reg_003.caption", "")
        told = await filled(one)
        assert (told.summary.made, told.summary.reconciled.displaced, set_aside(one)) == (1, [], {})
        assert (one.dataset.folder / "reg_002.txt").read_text(encoding="utf-8") == "a dog"


async def test_an_image_in_the_place_of_another_is_set_aside_and_named(
    job: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person put it there during the run."""
    async with serve(QUICK) as sim:
        one = job(sim.url)
        sync = Folder.sync

        def meanwhile(self: Folder, part: object) -> None:
            sync(self, part)  # type: ignore[arg-type]
            if not (self.images / "reg_003.png").exists():
                write(self.images / "reg_003.png", "mine")

        monkeypatch.setattr(Folder, "sync", meanwhile)
        told = await filled(one)
        assert told.summary.reconciled.displaced == ["reg_003.png"]
        assert any("reg_003.png" in note for note in told.notes)


async def test_a_caption_written_by_hand_is_set_aside_with_its_rejected_image(job: JobMaker) -> None:
    """A caption that reggen wrote is deleted."""
    async with serve(QUICK) as sim:
        await filled(one := job(sim.url, captions=WRITTEN))
        write(one.dataset.folder / "reg_002.txt", "a dog that sleeps")
        (prepared,) = prepare(one, "test.toml")
        reject(prepared.dataset, prepared.plan, [1, 2], "ugly")
        assert set_aside(one) == {"reg_002.txt": "a dog that sleeps"}
        assert not (one.dataset.folder / "reg_002.txt").exists()
        assert not (one.dataset.folder / "reg_003.txt").exists()


def offered(notes: list[str]) -> list[str]:
    """The command that a note offers, split as a shell does."""
    (note,) = (note for note in notes if "python -m reggen recaption" in note)
    return shlex.split("python -m reggen" + note.rpartition("python -m reggen")[2])[3:]


async def test_captions_of_an_earlier_job_are_counted_and_a_rewrite_is_offered(job: JobMaker, tmp_path: Path) -> None:
    """They stay as they are, and each run mentions them until the offered command was run."""
    async with serve(QUICK) as sim:
        await filled(one := job(sim.url, captions=WRITTEN))
        write(one.dataset.folder / "reg_004.txt", "by hand")
        assert (await filled(one)).notes == [], "the job is what it was"
        other = job(sim.url, captions={"write": "class", "extension": ".txt"})
        for _ in range(2):
            told = await filled(other)
            assert any("6 captions say something else" in note and "reg_001" in note for note in told.notes), told.notes
        assert (one.dataset.folder / "reg_004.txt").read_text(encoding="utf-8") == "by hand"
        words = offered(told.notes)
    file = tmp_path / "test.toml"
    file.write_text(
        "[dataset]\nroot = 'elsewhere'\nclass = 'thing'\ncount = 6\n[sampling]\ncheckpoint = 'AnythingXL_inkBase."
        "safetensors'\nwidth = 64\nheight = 64\nsteps = 2\n[prompts]\npositive = ['a cat', 'a dog', 'a bird']\n"
        "negative = 'blurry'\n[captions]\nwrite = 'class'\nextension = '.txt'\n",
        encoding="utf-8",
    )
    said = CliRunner().invoke(app, [str(file) if word == "test.toml" else word for word in words])
    assert said.exit_code == 0, said.output
    assert "6 captions written" in said.output
    assert {path.read_text(encoding="utf-8") for path in one.dataset.folder.glob("*.txt")} == {"thing"}
    assert "by hand" in set_aside(one).values()
    assert len(set_aside(one)) == 6
    async with serve(QUICK) as sim:
        assert (await filled(job(sim.url, captions={"write": "class", "extension": ".txt"}))).notes == []


async def test_captions_that_the_job_does_not_ask_for_any_more_are_mentioned(job: JobMaker) -> None:
    """A trainer still reads them; the offered command sets them aside."""
    async with serve(QUICK) as sim:
        await filled(job(sim.url, captions=WRITTEN))
        none = job(sim.url, captions={"write": "none", "extension": ".txt"})
        told = await filled(none)
        assert any("asks for none" in note and "6 captions are there" in note for note in told.notes), told.notes
        (prepared,) = prepare(none, "test.toml")
        assert rewrite_captions(prepared.dataset, prepared.plan, prepared.captions, prepared.guard).set_aside.count == 6
        assert not list(none.dataset.folder.glob("*.txt"))
        assert (await filled(none)).notes == []


async def test_captions_of_a_ledger_without_their_origin_are_compared_once(job: JobMaker) -> None:
    """An earlier reggen did not note what they were written from."""
    async with serve(QUICK) as sim:
        await filled(one := job(sim.url, captions=WRITTEN))
        with Ledger.open(one.dataset.state) as ledger:
            ledger.slots._database.write("DELETE FROM meta WHERE key = 'captions'", [()])
        assert (await filled(one)).notes == []
        with Ledger.open(one.dataset.state) as ledger:
            assert ledger.facts.get("captions") == "prompt"


async def test_captions_of_a_set_begun_by_hand_stay_and_are_mentioned_once(job: JobMaker) -> None:
    """The job has not changed since, and their author knows what they say."""
    async with serve(QUICK) as sim:
        await filled(one := job(sim.url))
        for number in range(1, 7):
            write(one.dataset.folder / f"reg_{number:03d}.txt", "by hand")
        shutil.rmtree(one.dataset.state)
        written = job(sim.url, captions=WRITTEN)
        assert any("6 captions say something else" in note for note in (await filled(written)).notes)
        assert (await filled(written)).notes == []
        assert {file.read_text(encoding="utf-8") for file in one.dataset.folder.glob("*.txt")} == {"by hand"}


def test_missing_captions_are_found_in_constant_memory(job: JobMaker) -> None:
    """Four times as many images take no more."""

    def peak(count: int) -> int:
        one = job(dataset={"count": count, "root": str(job().dataset.root) + str(count)}, captions=WRITTEN)
        (prepared,) = prepare(one, "test.toml")
        folder = Folder(one.dataset)
        folder.prepare()
        with Ledger.open(folder.state) as ledger:
            ledger.slots.put(Row(n, "done", 0, f"reg_{n + 1:04d}", "2026", positive="a cat") for n in range(count))
            for number in range(1, count + 1):
                (folder.images / f"reg_{number:04d}.txt").write_text("a cat", encoding="utf-8")
            supply_captions(folder, ledger, prepared.plan, one.captions, prepared.guard)  # what is loaded once
            tracemalloc.start()
            try:
                supply_captions(folder, ledger, prepared.plan, one.captions, prepared.guard)
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    assert peak(1600) < peak(400) + 20_000


def test_a_caption_that_cannot_be_read_is_a_sentence(job: JobMaker) -> None:
    """For instance a link to itself."""
    folder = Folder(job().dataset)
    folder.images.mkdir(parents=True)
    try:
        (folder.images / "reg_001.txt").symlink_to("reg_001.txt")
    except OSError:
        pytest.skip("links are not allowed here")
    with pytest.raises(StorageError, match=r"reg_001\.txt"):
        CaptionFiles(folder).clear("reg_001", "words", ".txt")


@pytest.mark.parametrize("name", ["reg_005.txt", "reg_005.caption"])
async def test_a_folder_in_a_captions_place_is_set_aside_and_named(job: JobMaker, name: str) -> None:
    """No trainer reads it. The caption is written, and the folder is kept with its content."""
    async with serve(QUICK) as sim:
        await filled(one := job(sim.url, captions=WRITTEN))
        folder = one.dataset.folder
        (folder / "reg_005.txt").unlink()
        write(folder / name / "inside", "mine")
        told = await filled(one)
        assert any(name in note and "rejected" in note for note in told.notes), told.notes
        assert (folder / "reg_005.txt").read_text(encoding="utf-8") == "a dog"
        assert (folder / name).is_file() or not (folder / name).exists()
        assert [file.read_text("utf-8") for file in (one.dataset.state / "rejected").rglob("inside")] == ["mine"]
        assert (await filled(one)).notes == []


async def test_a_folder_in_a_captions_place_ends_neither_a_run_nor_a_recaption(job: JobMaker) -> None:
    """Nor does it keep an image from being made or rejected."""
    async with serve(QUICK) as sim:
        one = job(sim.url, captions=WRITTEN)
        write(one.dataset.folder / "reg_002.txt" / "inside", "mine")
        told = await filled(one)
        assert (told.summary.exit_code, told.summary.reconciled.displaced) == (0, ["reg_002.txt"])
        (one.dataset.folder / "reg_003.txt").unlink()
        write(one.dataset.folder / "reg_003.txt" / "inside", "mine")
        (prepared,) = prepare(one, "test.toml")
        done = rewrite_captions(prepared.dataset, prepared.plan, prepared.captions, prepared.guard)
        assert (done.written.first, done.set_aside.first) == (["reg_003"], ["reg_003.txt"])
        write(one.dataset.folder / "reg_004.caption" / "inside", "mine")
        assert reject(prepared.dataset, prepared.plan, [3], "ugly").set_aside == ("reg_004",)
        assert not (one.dataset.folder / "reg_004.caption").exists()
