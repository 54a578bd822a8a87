"""The log file of a run: its times, its thread, and its failures."""

from __future__ import annotations

import logging
import threading
from logging.handlers import RotatingFileHandler
from pathlib import Path

import pytest

from reggen.report.run_log import RunLog


def test_the_log_is_written_with_times(tmp_path: Path) -> None:
    """Each line of the log file begins with the date and the time."""
    log = RunLog(tmp_path / "run.log")
    log.write("birnen\näpfel")
    log.close()
    written = (tmp_path / "run.log").read_text(encoding="utf-8")
    assert [line.split()[-1] for line in written.splitlines()] == ["birnen", "äpfel"]
    assert all(line[:4].isdecimal() and line[4] == "-" for line in written.splitlines())


def test_the_log_file_is_created_with_the_first_line(tmp_path: Path) -> None:
    """Opening the log creates no file and needs no folder."""
    log = RunLog(tmp_path / "not" / "yet" / "run.log")
    assert list(tmp_path.iterdir()) == []
    log.close()


def test_a_failing_log_does_not_disturb_the_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It neither raises nor prints."""
    (tmp_path / "run.log").mkdir()
    log = RunLog(tmp_path / "run.log")
    log.write("into the void")
    log.close()
    assert capfd.readouterr() == ("", "")


def test_a_disk_that_hangs_does_not_delay_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines logged meanwhile are written when it answers again."""
    gate, asked = threading.Event(), threading.Event()
    emit = RotatingFileHandler.emit

    def hanging(self: RotatingFileHandler, record: logging.LogRecord) -> None:
        asked.set()
        gate.wait(30)
        emit(self, record)

    monkeypatch.setattr(RotatingFileHandler, "emit", hanging)
    log = RunLog(tmp_path / "run.log")
    log.write("one")
    assert asked.wait(10)
    log.write("two")
    assert not gate.is_set()
    gate.set()
    log.close()
    assert [line.split()[-1] for line in (tmp_path / "run.log").read_text(encoding="utf-8").splitlines()] == [
        "one",
        "two",
    ]


def test_every_run_has_its_own_log(tmp_path: Path) -> None:
    """Two runs in one process have two logs, and neither belongs to the root logger."""
    logs = {name: RunLog(tmp_path / name) for name in ("one", "other")}
    for name, log in logs.items():
        log.write(name)
        log.close()
        assert (tmp_path / name).read_text(encoding="utf-8").split()[-1] == name
    assert "reggen.run" not in logging.Logger.manager.loggerDict


def test_a_log_that_is_closed_leaves_no_thread(tmp_path: Path) -> None:
    """A program may run many jobs one after the other."""
    before = threading.active_count()
    log = RunLog(tmp_path / "run.log")
    log.write("one")
    log.close()
    assert threading.active_count() == before
