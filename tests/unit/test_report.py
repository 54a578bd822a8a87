"""What people and programs are told: one line for each event, the closing words, report.json."""

import io
import json
import logging
import threading
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from reggen.dataset.folder import Folder
from reggen.dataset.ledger import Ledger, Row, now_utc
from reggen.dataset.reconcile import Reconciled
from reggen.engine.summary import BY_USER, EmptySlot, Summary
from reggen.errors import JobError, Problem, StorageError
from reggen.progress import (
    ImageSaved,
    Progress,
    PromptLeft,
    PromptPosted,
    RunEvent,
    RunStarted,
    RunStopping,
    Scanning,
    ServerChanged,
    ServersAwaited,
    ServerView,
    SlotGivenUp,
    Trouble,
)
from reggen.report.closing import closing, report, write_report
from reggen.report.console import Display
from reggen.report.lines import line, open_log, span
from reggen.report.status import missing
from tests.conftest import JobMaker
from tests.preparing import plan_of, prepared_of

BEGAN = RunStarted(0.0, 10, 0, ("a", "b"))
DATASET = (Path("reg") / "1_person").absolute()


def told(*events: RunEvent) -> str | None:
    """The line for the last of the events."""
    state, text = Progress(), None
    for event in events:
        state.apply(event)
        text = line(event, state)
    return text


def a_summary(**changes: Any) -> Summary:
    facts: dict[str, Any] = {
        "job_file": "configs/a.toml",
        "dataset": DATASET,
        "total": 10,
        "before": 4,
        "made": 6,
        "seconds": 12.0,
        "started": "2026-11-23T04:00:00Z",
        "servers": {"a": ServerView(up=True, why="", made=6, busy=9.0, failures=1)},
    }
    return Summary(**facts | changes)


# ---- lines


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (RunStarted(0, 10, 0, ("a", "b")), "10 images wanted; servers: a, b"),
        (RunStarted(0, 10, 4, ("a",)), "10 images wanted, 4 are there; servers: a"),
        (ServerChanged(1, "a", True, ""), "a is ready"),
        (ServerChanged(1, "a", False, "no answer"), "a is away: no answer"),
        (Trouble(1, "a", "reg_001: boom"), "reg_001: boom"),
        (SlotGivenUp(1, "reg_001", "it is black"), "reg_001 is given up: it is black"),
        (RunStopping(1, "you asked to stop"), "no new prompts: you asked to stop"),
        (ImageSaved(1, "a", "reg_001", 1.25), "reg_001 made on a in 1.2 s (1/10)"),
        (ImageSaved(1, "a", "reg_001", None), "reg_001 made on a (1/10)"),
        (PromptPosted(1, "a", ("reg_001",)), None),
        (PromptLeft(1, "a", ("reg_001",)), None),
    ],
)
def test_each_event_has_its_line(event: RunEvent, text: str | None):
    """An event is one sentence; what only the live display shows has none."""
    assert told(BEGAN, event) == text


def test_a_commit_says_how_long_it_will_take():
    """From the second image on, a line says how much time is left."""
    events = [ImageSaved(float(at), "a", f"reg_{at:03d}", None) for at in (2, 4)]
    assert told(BEGAN, *events) == "reg_004 made on a (2/10, 16 s left)"


def test_one_event_is_one_line():
    """A message that has several lines becomes one, so that every line of the log has its time."""
    text = told(BEGAN, Trouble(1, "a", "Traceback:\n  File x\nboom"))
    assert text is not None
    assert "\n" not in text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.04, "0.0 s"),
        (1.5, "1.5 s"),
        (8, "8 s"),
        (9.4, "9.4 s"),
        (9.6, "10 s"),
        (12.4, "12 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (250, "4 min 10 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (90_000, "25 h 00 min"),
    ],
)
def test_a_length_of_time_is_said_as_people_say_it(seconds: float, words: str):
    """Seconds below a minute, minutes below an hour, hours beyond; never 60 of anything."""
    assert span(seconds) == words


# ---- the log file


def test_the_log_is_written_with_times(tmp_path: Path):
    """Each line of the log file begins with the date and the time."""
    logger = open_log(tmp_path / "run.log")
    logger.warning("äpfel")
    for handler in logger.handlers:
        handler.close()
    written = (tmp_path / "run.log").read_text(encoding="utf-8")
    assert written.endswith(" äpfel\n")
    assert written[:4].isdecimal()
    assert written[4] == "-"


def test_the_log_is_made_only_when_something_is_said(tmp_path: Path):
    """Opening the log makes no file and needs no folder."""
    logger = open_log(tmp_path / "not" / "yet" / "run.log")
    assert list(tmp_path.iterdir()) == []
    for handler in logger.handlers:
        handler.close()


def test_a_log_that_cannot_be_written_disturbs_nobody(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """A failing log neither raises nor prints: the run goes on."""
    (tmp_path / "run.log").mkdir()
    logger = open_log(tmp_path / "run.log")
    logger.warning("into the void")
    logger.handlers[0].flush()
    assert capfd.readouterr() == ("", "")


def test_a_log_on_a_disk_that_hangs_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What is said while it hangs is written when it is back."""
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


def test_the_log_joins_nobody_elses(tmp_path: Path):
    """Two runs in one process have two logs, and neither hangs on the root logger."""
    one, other = open_log(tmp_path / "1"), open_log(tmp_path / "2")
    assert one is not other
    assert one.parent is None
    assert one not in logging.Logger.manager.loggerDict.values()


# ---- the closing words


def test_a_complete_run_says_what_to_do_next():
    """Complete: how many, where, how fast, and the trainer's argument, which is the folder's parent."""
    assert closing(a_summary()).splitlines() == [
        f"Complete: 10 of 10 images in {DATASET}",
        "  made now     6 in 12 s, 2.00 s an image; the servers were painting 75 % of the time",
        f"Next: train with --reg_data_dir {DATASET.parent}",
    ]


def test_a_run_that_had_nothing_to_do_says_so():
    """A second run of a finished job made nothing, and says that everything was there."""
    lines = closing(a_summary(before=10, made=0, seconds=0.1, servers={})).splitlines()
    assert lines[1] == "  made now     none: everything was there"


def test_a_run_with_images_missing_names_them_with_reasons():
    """Incomplete: what was given up and why, and that the same command makes only what is missing."""
    given = (EmptySlot("reg_003", "it is black (tried 3 times)"), EmptySlot("reg_007", "refused"))
    lines = closing(a_summary(made=4, given_up=given)).splitlines()
    assert lines[0] == f"Incomplete: 8 of 10 images in {DATASET}"
    assert lines[2:] == [
        "  given up     reg_003: it is black (tried 3 times)",
        "  given up     reg_007: refused",
        "Next: mend what is named above, then the same command makes only what is missing",
    ]


def test_a_stopped_run_says_how_to_go_on():
    """Stopped by the user: not a failure, and the same command goes on."""
    lines = closing(a_summary(made=1, stopped=BY_USER)).splitlines()
    assert lines[0] == f"Stopped: 5 of 10 images in {DATASET}"
    assert lines[-2:] == [
        "  ended early  you asked to stop",
        "Next: the same command goes on where this one stopped",
    ]


def test_a_run_whose_time_is_up_has_nothing_to_be_mended():
    """--until and --for: nothing went wrong, and the same command goes on."""
    lines = closing(a_summary(made=1, stopped="the time is up")).splitlines()
    assert lines[-2:] == [
        "  ended early  the time is up",
        "Next: the same command goes on where this one stopped",
    ]


def test_a_run_that_an_error_ended_says_which():
    """What ended the run early stands in the closing words."""
    full = StorageError("/data", "writing", "no space left")
    assert f"  ended early  {full}" in closing(a_summary(made=1, error=full))


def test_a_rehearsal_points_to_the_real_run():
    """After a rehearsal nobody is told to train with marked pictures."""
    last = closing(a_summary(), rehearsal=True).splitlines()[-1]
    assert last == "This was a rehearsal: marked pictures, no real ones. Next: python -m reggen run configs/a.toml"


def test_what_the_run_found_is_named():
    """Adopted, refilled, set aside, strangers and other settings each have a line."""
    resumed = Reconciled(adopted=["reg_001"], deleted=["reg_002", "reg_003"], set_aside=["reg_004.png is torn"])
    others = (range(1), range(4, 7))
    lines = closing(a_summary(resumed=resumed, strangers=("cat.jpg",), other_recipes=others)).splitlines()
    assert lines[2:-1] == [
        "  adopted      reg_001 (lay there already; checked, and kept)",
        "  refilled     reg_002, reg_003 (had been deleted, so another was made)",
        "  set aside    reg_004.png is torn (moved to .reggen: no good images)",
        "  note         4 images were made earlier with other settings, and were kept: 1 5-7",
        "  note         to have these made again too, give `python -m reggen redo` their numbers",
        "  note         cat.jpg (in the folder, but not of this set; a trainer reads them too)",
    ]


def test_long_lists_are_cut_short():
    """Ten names, ten reasons and ten runs of numbers are shown, and the rest is counted."""
    names = [f"reg_{n:03d}" for n in range(1, 26)]
    given = tuple(EmptySlot(name, f"no {name}") for name in names)
    others = tuple(range(n, n + 2) for n in range(0, 1000, 10))
    found = a_summary(total=50, given_up=given, resumed=Reconciled(deleted=names), other_recipes=others)
    lines = closing(found).splitlines()
    assert "reg_010 and 15 more (" in lines[2]
    assert len([text for text in lines if text.startswith("  given up ")]) == 11
    assert "  given up     15 more; report.json names them" in lines
    assert any(
        text.endswith("were kept: 1-2 11-12 21-22 31-32 41-42 51-52 61-62 71-72 81-82 91-92 and 180 more")
        for text in lines
    )


def test_what_was_given_up_for_one_reason_is_one_line():
    """However many they are: the reason stands there once, with the names it holds for."""
    names = [f"reg_{n:03d}" for n in range(1, 13)]
    given = (*(EmptySlot(name, "it is black") for name in names), EmptySlot("reg_020", "refused"))
    lines = closing(a_summary(total=50, given_up=given)).splitlines()
    assert [text for text in lines if text.startswith("  given up ")] == [
        f"  given up     {', '.join(names[:10])} and 2 more: it is black",
        "  given up     reg_020: refused",
    ]


def test_several_servers_are_told_apart():
    """With more than one server each has a line: what it made, its failures, what is wrong with it now."""
    servers = {
        "a:1": ServerView(up=True, why="", made=6, busy=6.0),
        "b:1": ServerView(up=False, why="no answer", failures=3, switches=2),
    }
    lines = closing(a_summary(servers=servers)).splitlines()
    assert lines[1].endswith("the servers were painting 25 % of the time")
    assert lines[2:4] == [
        "  a:1          6 made, 0 failures",
        "  b:1          0 made, 3 failures, 2 checkpoint switches; no answer",
    ]


# ---- the exit code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"made": 5}, 1),
        ({"made": 5, "stopped": BY_USER}, 130),
        ({"stopped": BY_USER}, 0),
        ({"made": 5, "stopped": "10 images in a row were given up"}, 1),
        ({"made": 5, "error": StorageError("/d", "writing", "full")}, 5),
        ({"made": 0, "error": JobError("a.toml", (Problem("", "refused"),))}, 2),
        ({"made": 5, "stopped": BY_USER, "error": StorageError("/d", "writing", "full")}, 5),
    ],
    ids=["complete", "missing", "stopped", "stopped at the last", "hopeless", "disk", "job", "disk while stopping"],
)
def test_the_exit_code_says_how_it_ended(changes: dict[str, Any], code: int):
    """0 complete, 1 images missing, 130 stopped by the user, or the code of the error that ended it."""
    assert a_summary(**changes).exit_code == code


def test_the_last_words_tell_the_trainer_which_captions_to_read():
    """Its default is .caption: captions with another ending were written for nothing."""
    last = closing(a_summary(captions=".txt")).splitlines()[-1]
    assert last == f"Next: train with --reg_data_dir {DATASET.parent} --caption_extension .txt"


def shown(display: Display, out: io.StringIO) -> str:
    out.seek(0)
    out.truncate()
    display._console.print(display.render(lambda: 20.0))
    return out.getvalue()


def test_the_display_says_what_is_looked_at_before_the_run_begins():
    """Never 0 of 0: what is wanted is not known yet."""
    display = Display(Console(file=(out := io.StringIO()), width=120), "a: girl", None)
    assert "looking at what lies there" in (text := shown(display, out))
    assert "0 of 0" not in text
    display.tell(Scanning(10.0, 872, 5000))
    assert "looking at the images that lie there: 872 of 5,000" in (text := shown(display, out))
    assert "0 of 0" not in text
    display.tell(Scanning(11.0, 5000, 5000))
    display.tell(BEGAN)
    assert "looking" not in (text := shown(display, out))
    assert "0 of 10" in text


def test_lines_say_now_and_then_what_is_looked_at():
    """At once, and every ten seconds; not with each image."""
    display = Display(Console(file=(out := io.StringIO()), width=120, force_terminal=False), "a: girl", None)
    for at in range(100, 125):
        display.tell(Scanning(float(at), at, 5000))
    said = [text.partition(" ")[2] for text in out.getvalue().splitlines()]
    assert said == [f"looking at the images that lie there: {at} of 5,000" for at in (100, 110, 120)]


def test_the_display_says_the_whole_of_what_a_person_can_do_about_no_server():
    """However narrow the terminal: the remedy stands at the end of the reason."""
    display = Display(Console(file=(out := io.StringIO()), width=60), "a: girl", None)
    display.tell(BEGAN)
    why = "reading the queue: HTTP 401: Unauthorized; give this server valid credentials in [[servers]]: headers"
    display.tell(ServersAwaited(11.0, why))
    assert why in " ".join(shown(display, out).split())


# ---- report.json


def test_the_report_says_the_same_to_programs():
    """Every count, the reasons, and each server's own figures."""
    summary = a_summary(
        made=5,
        given_up=(EmptySlot("reg_003", "it is black"),),
        versions={"a": "0.33.0"},
        resumed=Reconciled(adopted=["reg_001"], deleted=["reg_002"], set_aside=["reg_004.png is torn"]),
        other_recipes=(range(2),),
        stopped=BY_USER,
    )
    assert report(summary) == {
        "format": 1,
        "job": "configs/a.toml",
        "dataset": str(DATASET),
        "started": "2026-11-23T04:00:00Z",
        "seconds": 12.0,
        "exit_code": 130,
        "wanted": 10,
        "there_before": 4,
        "made": 5,
        "kept": 9,
        "missing": 1,
        "given_up": {"reg_003": "it is black"},
        "ended_early": "you asked to stop",
        "seconds_per_image": 2.4,
        "adopted": ["reg_001"],
        "refilled": ["reg_002"],
        "set_aside": ["reg_004.png is torn"],
        "files_set_aside": [],
        "ledger_set_aside": None,
        "values": {},
        "other_settings": 2,
        "servers": {
            "a": {
                "made": 6,
                "failures": 1,
                "checkpoint_switches": 0,
                "busy_seconds": 9.0,
                "busy_seconds_per_image": 1.5,
                "comfyui": "0.33.0",
            }
        },
    }


def test_a_report_of_nothing_made_divides_by_nothing():
    """No image made: no seconds per image, and no early end when there was none."""
    facts = report(a_summary(before=10, made=0, servers={"a": ServerView()}))
    assert (facts["seconds_per_image"], facts["ended_early"]) == (None, None)
    assert facts["servers"]["a"]["busy_seconds_per_image"] is None
    assert facts["servers"]["a"]["comfyui"] is None


def test_the_report_replaces_the_one_before(tmp_path: Path):
    """report.json is written whole, in UTF-8, and leaves no other file beside it."""
    file = tmp_path / "report.json"
    file.write_text("the one before", encoding="utf-8")
    summary = a_summary(given_up=(EmptySlot("reg_003", "Fehler: größe"),), made=5)
    write_report(summary, file)
    assert json.loads(file.read_text(encoding="utf-8")) == report(summary)
    assert "größe" in file.read_text(encoding="utf-8")
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]


def test_a_report_that_cannot_be_written_is_a_storage_error(tmp_path: Path):
    """Where there is no folder for it, the report says so as every disk failure does."""
    with pytest.raises(StorageError, match=r"^writing .*report\.json: "):
        write_report(a_summary(), tmp_path / "not there" / "report.json")


def test_a_file_name_that_is_no_text_does_not_cost_the_report(tmp_path: Path):
    """A folder or file name with bytes that are no UTF-8 is reported as well as it can be."""
    file = tmp_path / "report.json"
    write_report(a_summary(resumed=Reconciled(set_aside=["reg_001\udcff.png is torn"])), file)
    assert json.loads(file.read_text(encoding="utf-8"))["made"] == 6


# ---- the display


def test_the_end_is_told_once_and_for_all_classes():
    """After the first minutes it is said when the run will be over, with what the classes after this one lack."""
    out = io.StringIO()
    display = Display(Console(file=out, width=120), "a: girl", None, later=20)
    display.tell(RunStarted(0.0, 10, 0, ("a",)))
    for number, at in enumerate((60.0, 130.0, 200.0), 1):
        display.tell(ImageSaved(at, "a", f"reg_{number:03d}", 60.0))
    said = [text for text in out.getvalue().splitlines() if "at this rate" in text]
    assert len(said) == 1
    assert "all classes are ready at" in said[0]
    assert "in 32 min 40 s" in said[0]  # 28 images are left at 70 s each
    drawn = io.StringIO()
    Console(file=drawn, width=160).print(display.render(lambda: 200.0))
    head = drawn.getvalue().splitlines()[0]
    assert "8 min 10 s left, ready at" in head
    assert "all classes at" in head


def test_what_following_classes_lack_is_told_by_their_ledgers(job: JobMaker) -> None:
    """Nothing begun lacks all; what is done counts, whatever was given up."""
    wanted = job()
    assert missing(prepared_of(wanted).dataset) == wanted.dataset.count
    folder = Folder(wanted.dataset)
    folder.prepare()
    ledger = Ledger.open(folder.state / "ledger.sqlite")
    ledger.put([Row(0, "done", 0, "reg_001", now_utc()), Row(1, "given_up", 0, "reg_002", now_utc(), "no")])
    ledger.close()
    assert missing(prepared_of(wanted).dataset) == len(plan_of(wanted)) - 1
