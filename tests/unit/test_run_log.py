"""The log file of a run: its times, its thread, and its failures."""

from __future__ import annotations

import logging
import threading
from logging.handlers import RotatingFileHandler
from pathlib import Path

import pytest

from reggen.report.run_log import open_log


def test_the_log_is_written_with_times(tmp_path: Path) -> None:
    """Each line of the log file begins with the date and the time."""
    logger = open_log(tmp_path / "run.log")
    logger.warning("äpfel")
    for handler in logger.handlers:
        handler.close()
    written = (tmp_path / "run.log").read_text(encoding="utf-8")
    assert written.endswith(" äpfel\n")
    assert written[:4].isdecimal()
    assert written[4] == "-"


def test_the_log_file_is_created_with_the_first_line(tmp_path: Path) -> None:
    """Opening the log creates no file and needs no folder."""
    logger = open_log(tmp_path / "not" / "yet" / "run.log")
    assert list(tmp_path.iterdir()) == []
    for handler in logger.handlers:
        handler.close()


def test_a_failing_log_does_not_disturb_the_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It neither raises nor prints."""
    (tmp_path / "run.log").mkdir()
    logger = open_log(tmp_path / "run.log")
    logger.warning("into the void")
    logger.handlers[0].flush()
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
    logger = open_log(tmp_path / "run.log")
    logger.warning("one")
    assert asked.wait(10)
    logger.warning("two")
    assert not gate.is_set()
    gate.set()
    logger.handlers[0].close()
    assert [line.split()[-1] for line in (tmp_path / "run.log").read_text(encoding="utf-8").splitlines()] == [
        "one",
        "two",
    ]


def test_every_run_has_its_own_log(tmp_path: Path) -> None:
    """Two runs in one process have two logs, and neither belongs to the root logger."""
    one, other = open_log(tmp_path / "1"), open_log(tmp_path / "2")
    assert one is not other
    assert one.parent is None
    assert one not in logging.Logger.manager.loggerDict.values()
