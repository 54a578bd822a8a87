"""Files and folders in the place of reggen's own: named, with what to do, before anything is made."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reggen.cli import app
from reggen.dataset.folder import Folder
from reggen.dataset.ledger import Ledger, ledger_file
from reggen.errors import StorageError
from reggen.sim import Settings, serve
from tests.conftest import JobMaker, filled
from tests.pictures import write

QUICK = Settings(seconds=0.005)


@pytest.mark.parametrize(
    ("name", "is_folder"),
    [
        ("parts", False),
        ("rejected", False),
        ("lock", True),
        ("holder.txt", True),
        ("", False),
        ("ledger.sqlite-shm", True),
        ("ledger.sqlite-wal", True),
        ("ledger.sqlite-journal", True),
    ],
)
async def test_a_blocked_place_is_named_with_what_to_do(job: JobMaker, name: str, is_folder: bool) -> None:
    """The message names the file, not its folder; once it is moved, the same command goes on."""
    async with serve(QUICK) as sim:
        one = job(sim.url)
        place = one.dataset.state / name if name else one.dataset.state
        if is_folder:
            write(place / "inside", "mine")
        else:
            write(place, "mine")
        with pytest.raises(StorageError) as caught:
            await filled(one)
        kind = "a folder where a file belongs" if is_folder else "a file where a folder belongs"
        assert f" {place}: it is {kind}. " in str(caught.value)
        assert "move it elsewhere, then run the same command again" in str(caught.value)
        assert sim.count("POST", "/prompt") == 0
        place.rename(one.dataset.root / "elsewhere")
        assert (await filled(one)).summary.exit_code == 0


async def test_a_ledger_of_a_newer_reggen_asks_for_an_update(job: JobMaker, tmp_path: Path) -> None:
    """Running the same command again would not help. `status` and `plan` say the same as a run."""
    async with serve(QUICK) as sim:
        await filled(one := job(sim.url))
        with sqlite3.connect(ledger_file(one.dataset.state)) as db:
            db.execute("PRAGMA user_version = 99")
        db.close()
        with pytest.raises(StorageError, match="update reggen") as caught:
            await filled(one)
        assert "fix this" not in str(caught.value)
    file = write(
        tmp_path / "job.toml",
        f"dataset = {{ root = '{one.dataset.root.as_posix()}', class = 'thing', count = 6 }}\n"
        "sampling = { checkpoint = 'a.safetensors', width = 64, height = 64 }\n[prompts]\npositive = 'a cat'\n",
    )
    for command in ("status", "plan"):
        told = CliRunner().invoke(app, [command, str(file)])
        assert isinstance(told.exception, StorageError), (command, told.output)
        assert "update reggen" in str(told.exception)


def test_a_file_above_a_missing_folder_is_named(tmp_path: Path, job: JobMaker) -> None:
    """The system's error names a folder below it."""
    write(tmp_path / "reg" / ".reggen", "mine")
    folder = Folder(job().dataset)
    with pytest.raises(StorageError, match=r"\.reggen: it is a file where a folder belongs"):
        folder.prepare()
    with pytest.raises(StorageError, match="opening"):
        Ledger.open(folder.state)
