"""A damaged ledger, or another program's file in its place: set aside and named, and the images are adopted again."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reggen.cli import app
from reggen.dataset.ledger import Ledger, ledger_file
from reggen.dataset.reject import reject
from reggen.dataset.rows import Row
from reggen.errors import JobError, LedgerDamaged
from reggen.job.models import Job
from reggen.prepare.prepared_job import prepare
from reggen.report.closing import format_closing, report_data
from reggen.sim import Settings, serve
from tests.conftest import JobMaker, Told, filled
from tests.invariants import assert_sound

QUICK = Settings(seconds=0.005)
Harm = Callable[[Path], object]


def sql(*statements: str) -> Harm:
    """Damage by another program that writes into the file."""

    def harm(path: Path) -> None:
        with sqlite3.connect(path) as db:
            for statement in statements:
                db.execute(statement)
        db.close()

    return harm


def bytes_at(share: float, content: bytes) -> Harm:
    """Damage by the disk: other bytes at some place of the file."""

    def harm(path: Path) -> None:
        whole = path.read_bytes()
        start = int(len(whole) * share)
        path.write_bytes(whole[:start] + content + whole[start + len(content) :])

    return harm


def cut(share: float) -> Harm:
    def harm(path: Path) -> None:
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    return harm


def another_database(path: Path) -> None:
    path.unlink()
    sql("CREATE TABLE cookies (host TEXT, value BLOB)", "INSERT INTO cookies VALUES ('a', x'00')")(path)


def a_folder(path: Path) -> None:
    path.unlink()
    (path / "inside").mkdir(parents=True)


HARMS: dict[str, Harm] = {
    "garbage": bytes_at(0.0, b"this is no database " * 8000),
    "cut to a half": cut(0.5),
    "cut to a tenth": cut(0.1),
    "cut within the header": cut(0.0005),
    "NULs in the middle": bytes_at(0.3, bytes(9000)),
    "NULs at the start": bytes_at(0.0, bytes(4096)),
    "another database": another_database,
    "a folder": a_folder,
    "another table of that name": sql("DROP TABLE slot", "CREATE TABLE slot (idx INTEGER, words TEXT)"),
    "a column gone": sql("ALTER TABLE slot DROP COLUMN sha256"),
    "0 bytes": lambda path: path.write_bytes(b""),
    "an index below 0": sql("UPDATE slot SET idx = -5 WHERE idx = 2"),
    "a path for a name": sql("UPDATE slot SET name = '../../../evil' WHERE idx = 2"),
    "text for a take": sql("UPDATE slot SET take = 'abc' WHERE idx = 2"),
    "no table": sql("DROP TABLE slot", "CREATE TABLE mine (one TEXT)"),
    "text for a number": sql("UPDATE slot SET take = 'none' WHERE idx = 2"),
    "text for a size": sql("UPDATE slot SET bytes = 'large' WHERE idx = 2"),
    "bytes for text": sql("UPDATE slot SET positive = x'ff00fe' WHERE idx = 2"),
    "text that is not UTF-8": sql("UPDATE slot SET positive = CAST(x'ff00fe' AS TEXT) WHERE idx = 2"),
    "a number for a name": sql("UPDATE slot SET name = x'31' WHERE idx = 2"),
    "another slot's name": sql("UPDATE slot SET name = 'reg_005' WHERE idx = 2"),
    "a name that is a path": sql("UPDATE slot SET name = '../../reg_003' WHERE idx = 2"),
    "a take that is none": sql("UPDATE slot SET take = -4 WHERE idx = 2"),
    "a hash that is none": sql("UPDATE slot SET likeness = 'zz' WHERE idx = 2"),
    "a run without an id": sql("UPDATE run SET id = 'mine'"),
    "a fact that is no JSON": sql("UPDATE meta SET value = '{' WHERE key = 'format'"),
    "a fact of another type": sql("UPDATE meta SET value = '7' WHERE key = 'prefix'"),
}


async def made_and_harmed(job: JobMaker, harm: Harm, url: str) -> Job:
    """Make six images, then damage the ledger."""
    await filled(one := job(url))
    harm(ledger_file(one.dataset.state))
    return one


def kept(job: Job) -> list[str]:
    return sorted(file.name for file in job.dataset.state.glob("ledger.sqlite.damaged-*"))


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
async def test_a_damaged_ledger_is_set_aside_and_the_images_are_adopted(job: JobMaker, harm: Harm) -> None:
    """Nothing is made again, no image is touched; the display, the summary and the report say so."""
    async with serve(QUICK) as sim:
        one = await made_and_harmed(job, harm, sim.url)
        before = {file.name: file.read_bytes() for file in one.dataset.folder.iterdir()}
        posted = sim.count("POST", "/prompt")
        told = await filled(one)
        assert sim.count("POST", "/prompt") == posted
    assert {file.name: file.read_bytes() for file in one.dataset.folder.iterdir()} == before
    assert kept(one)[0] == "ledger.sqlite.damaged-1"
    assert any("is damaged" in note and "ledger.sqlite.damaged-1" in note for note in told.notes), told.notes
    assert (told.summary.exit_code, len(told.summary.reconciled.adopted)) == (0, 6)
    assert "ledger.sqlite.damaged-1" in format_closing(told.summary)
    assert report_data(told.summary)["ledger_set_aside"] == "ledger.sqlite.damaged-1"
    assert_sound(one)
    again = await filled(one)
    assert (again.summary.reconciled.ledger, again.notes, len(kept(one))) == ("", [], len(kept(one)))


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
async def test_no_command_ends_in_a_traceback(job: JobMaker, tmp_path: Path, harm: Harm) -> None:
    """Those that only read say what to do, or do without the ledger; none changes it."""
    async with serve(QUICK) as sim:
        one = await made_and_harmed(job, harm, sim.url)
    file = tmp_path / "job.toml"
    file.write_text(
        f"[dataset]\nroot = '{one.dataset.root.as_posix()}'\nclass = 'thing'\ncount = 6\n[sampling]\n"
        "checkpoint = 'AnythingXL_inkBase.safetensors'\nwidth = 64\nheight = 64\nsteps = 2\nbatch = 'auto'\n"
        "[prompts]\npositive = ['a cat', 'a dog', 'a bird']\nnegative = 'blurry'\n",
        encoding="utf-8",
    )
    ledger = ledger_file(one.dataset.state)
    before = ledger.read_bytes() if ledger.is_file() else None
    telling = (["status"], ["status", "--json"], ["plan"])
    looking = (*telling, ["config", "--for", "kohya"], ["doctor"])
    for words in (*looking, ["redo", "3"], ["reject", "2-4"]):
        result = CliRunner().invoke(app, [words[0], str(file), *words[1:]])
        error = result.exception
        assert error is None or isinstance(error, SystemExit | LedgerDamaged), (words, error)
        assert isinstance(error, LedgerDamaged) or words not in telling, (words, result.output)
        if words == ["doctor"]:
            assert isinstance(error, LedgerDamaged) or "a ledger that cannot be read" in result.output, result.output
        if isinstance(error, LedgerDamaged):
            assert "python -m reggen run" in str(error), words
        if words in looking:
            assert (ledger.read_bytes() if ledger.is_file() else None) == before, words


async def test_rejected_pictures_are_not_made_again(job: JobMaker) -> None:
    """The takes of empty slots are salvaged from a damaged ledger, and so is the fact that it is a rehearsal's."""
    async with serve(QUICK) as sim:
        await filled(one := job(sim.url))
        (prepared,) = prepare(one, "test.toml")
        reject(prepared.dataset, prepared.plan, [3], "ugly")
        sql("UPDATE slot SET bytes = 'large' WHERE idx = 1", "UPDATE meta SET value = 'true' WHERE key = 'rehearsal'")(
            ledger_file(one.dataset.state)
        )
        with pytest.raises(JobError, match="rehearsal's marked pictures"):
            await filled(one)
        sql("UPDATE meta SET value = 'false' WHERE key = 'rehearsal'")(ledger_file(one.dataset.state))
        told = await filled(one)
        assert (told.summary.made, len(told.summary.reconciled.adopted), told.summary.reconciled.ledger) == (
            1,
            5,
            kept(one)[0],
        )
        with Ledger.open(one.dataset.state) as ledger:
            assert {row.idx: row.take for row in ledger.slots.walk("done")}[3] == 1


async def test_a_ledger_damaged_during_a_run_does_not_end_it(job: JobMaker) -> None:
    """The images so far are adopted, and the rest is made."""
    async with serve(Settings(seconds=0.03)) as sim:
        one = job(sim.url, dataset={"count": 12})
        told = Told()

        def harm(event: object) -> None:
            told.events.append(event)  # type: ignore[arg-type]

        await filled(one.model_copy(update={"dataset": one.dataset.model_copy(update={"count": 4})}))
        with sqlite3.connect(ledger_file(one.dataset.state)) as db:  # it bites when the fifth image gets its row
            db.execute("CREATE TRIGGER bite BEFORE INSERT ON slot WHEN new.idx = 5 BEGIN SELECT nothere(); END")
        db.close()
        told = await filled(one)
        assert (told.summary.exit_code, told.summary.missing, told.summary.reconciled.ledger) == (0, 0, kept(one)[0])
        assert_sound(one)


async def test_a_disk_that_damages_every_ledger_ends_the_run(job: JobMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second damaged ledger in one run is the disk's fault: exit 5, with what to do."""

    def verify(self: Ledger) -> None:
        raise LedgerDamaged("ledger.sqlite", "checking the ledger", "a page is torn")

    async with serve(QUICK) as sim:
        await filled(one := job(sim.url))
        monkeypatch.setattr(Ledger, "verify", verify)
        with pytest.raises(LedgerDamaged, match="sets this file aside"):
            await filled(one)


def test_a_ledger_is_set_aside_with_its_journal(tmp_path: Path) -> None:
    """The last rows that were written can be read in it, too."""
    from reggen.dataset.salvage import replace_damaged

    writer = Ledger.open(tmp_path)
    writer.slots.put([Row(0, "rejected", 3, "reg_001", "2026")])
    for ending in ("", "-wal", "-shm"):
        shutil.copyfile(tmp_path / f"ledger.sqlite{ending}", tmp_path / f"copy{ending}")
    writer.close()
    for ending in ("", "-wal", "-shm"):
        (tmp_path / f"copy{ending}").replace(tmp_path / f"ledger.sqlite{ending}")
    assert replace_damaged(tmp_path).name == "ledger.sqlite.damaged-1"
    assert (tmp_path / "ledger.sqlite.damaged-1-wal").exists()
    with Ledger.open(tmp_path) as ledger:
        assert ledger.slots.takes(0, 1) == {0: 3}
    ledger_file(tmp_path).write_bytes(b"no database" * 100)
    assert replace_damaged(tmp_path).name == "ledger.sqlite.damaged-2"


def test_the_check_finds_nothing_in_a_ledger_that_reggen_wrote(job: JobMaker, tmp_path: Path) -> None:
    """With numbers of other widths, a batch, adopted and given-up rows."""
    with Ledger.open(tmp_path) as ledger:
        ledger.facts.claim("a.toml", {"prefix": "reg", "format": "png", "rehearsal": False})
        ledger.facts.put({"batch": 4})
        ledger.slots.put(
            [
                Row(0, "done", 0, "reg_1", "2026", bytes=1, waited=2, busy=0.25, likeness="00000000000000ff"),
                Row(99_999, "given_up", 5, "reg_100000", "2026", reason="it is black"),
                Row(9, "rejected", 1, "reg_0010", "2026"),
            ]
        )
        ledger.verify()


def test_a_ledger_of_version_1_that_is_only_read_is_sound(tmp_path: Path) -> None:
    """Reading does not update it, and does not take it for damaged; nor a ledger that is only being made."""
    with Ledger.open(tmp_path) as ledger:
        ledger.slots.put([Row(0, "done", 0, "reg_001", "2026", bytes=1)])
    sql("ALTER TABLE slot DROP COLUMN likeness", "DROP TABLE rejection", "PRAGMA user_version = 1")(
        ledger_file(tmp_path)
    )
    for harm in (lambda _: None, sql("DROP TABLE meta", "DROP TABLE run", "PRAGMA user_version = 0")):
        harm(ledger_file(tmp_path))
        reader = Ledger.read(tmp_path)
        assert reader is not None
        with reader:
            reader.verify()
            assert reader.slots.counts(6) == {"done": 1}
