"""The end of a run: the closing summary, the exit code and report.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reggen.dataset.reconcile import Reconciled
from reggen.engine.summary import BY_USER, EmptySlot, Summary
from reggen.errors import JobError, Problem, StorageError
from reggen.progress import ServerView
from reggen.report.closing import format_closing, report_data, write_report

DATASET = (Path("reg") / "1_person").absolute()


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


# ---- the closing summary


def test_a_complete_run_says_what_to_do_next() -> None:
    """How many images, where, how fast, and the trainer's argument, which is the folder's parent."""
    assert format_closing(a_summary()).splitlines() == [
        f"Complete: 10 of 10 images in {DATASET}",
        "  made now     6 in 12 s, 2.00 s per image; the servers were busy 75 % of the time",
        f"Next: train with --reg_data_dir {DATASET.parent}",
    ]


def test_a_run_that_had_nothing_to_do_says_so() -> None:
    """A second run of a finished job makes nothing and says that all images were present."""
    lines = format_closing(a_summary(before=10, made=0, seconds=0.1, servers={})).splitlines()
    assert lines[1] == "  made now     none: all images were present"


def test_a_run_with_images_missing_names_them_with_reasons() -> None:
    """The names that were given up and why; the same command makes only the missing images."""
    given = (EmptySlot("reg_003", "it is black (tried 3 times)"), EmptySlot("reg_007", "refused"))
    lines = format_closing(a_summary(made=4, given_up=given)).splitlines()
    assert lines[0] == f"Incomplete: 8 of 10 images in {DATASET}"
    assert lines[2:] == [
        "  given up     reg_003: it is black (tried 3 times)",
        "  given up     reg_007: refused",
        "Next: fix the reasons above and run the same command; it makes only the missing images",
    ]


def test_a_stopped_run_says_how_to_continue() -> None:
    """Stopping is not a failure; the same command continues."""
    lines = format_closing(a_summary(made=1, stopped=BY_USER)).splitlines()
    assert lines[0] == f"Stopped: 5 of 10 images in {DATASET}"
    assert lines[-2:] == [
        "  ended early  you asked to stop",
        "Next: run the same command; it continues where this run stopped",
    ]


def test_a_run_whose_time_is_up_has_nothing_to_fix() -> None:
    """--until and --for: nothing went wrong, and the same command continues."""
    lines = format_closing(a_summary(made=1, stopped="the time is up")).splitlines()
    assert lines[-2:] == [
        "  ended early  the time is up",
        "Next: run the same command; it continues where this run stopped",
    ]


def test_a_run_that_an_error_ended_says_which() -> None:
    """The error is named in the closing summary."""
    full = StorageError("/data", "writing", "no space left")
    assert f"  ended early  {full}" in format_closing(a_summary(made=1, error=full))


def test_a_rehearsal_points_to_the_real_run() -> None:
    """After a rehearsal the summary does not advise to train with the marked pictures."""
    last = format_closing(a_summary(), rehearsal=True).splitlines()[-1]
    assert last == (
        "This was a rehearsal: the pictures are marked, none is real. Next: python -m reggen run configs/a.toml"
    )


def test_the_state_of_the_folder_is_told() -> None:
    """Adopted, refilled, set aside, strangers and other settings each have a line."""
    reconciled = Reconciled(adopted=["reg_001"], deleted=["reg_002", "reg_003"], set_aside=["reg_004.png is torn"])
    others = (range(1), range(4, 7))
    lines = format_closing(
        a_summary(reconciled=reconciled, foreign_images=("cat.jpg",), other_recipes=others)
    ).splitlines()
    assert lines[2:-1] == [
        "  adopted      reg_001 (found in the folder, checked and kept)",
        "  refilled     reg_002, reg_003 (deleted since the last run, made again)",
        "  set aside    reg_004.png is torn (unusable, moved to .reggen)",
        "  note         4 images made earlier with other settings were kept: 1 5-7",
        "  note         to make these again too, give their numbers to `python -m reggen redo`",
        "  note         cat.jpg (in the folder, but not of this set; a trainer reads these too)",
    ]


def test_one_image_is_one_image() -> None:
    """Counts of one are written in the singular."""
    servers = {"a": ServerView(up=True, why="", made=1, failures=1, switches=1)}
    text = format_closing(
        a_summary(total=1, before=0, made=1, other_recipes=(range(1),), images_beyond=1, servers=servers)
    )
    assert text.startswith("Complete: 1 of 1 image in ")
    assert "  a            1 made, 1 failure, 1 checkpoint switch\n" in text
    assert "  note         1 image made earlier with other settings was kept: 1\n" in text
    assert "  note         the folder has 1 image beyond the count; a trainer reads these too\n" in text


def test_long_lists_are_cut_short() -> None:
    """Ten names, ten reasons and ten ranges are listed; the rest is counted."""
    names = [f"reg_{n:03d}" for n in range(1, 26)]
    given = tuple(EmptySlot(name, f"no {name}") for name in names)
    others = tuple(range(n, n + 2) for n in range(0, 1000, 10))
    found = a_summary(total=50, given_up=given, reconciled=Reconciled(deleted=names), other_recipes=others)
    lines = format_closing(found).splitlines()
    assert "reg_010 and 15 more (" in lines[2]
    assert len([text for text in lines if text.startswith("  given up ")]) == 11
    assert "  given up     15 more; report.json names them" in lines
    assert any(
        text.endswith("were kept: 1-2 11-12 21-22 31-32 41-42 51-52 61-62 71-72 81-82 91-92 and 180 more")
        for text in lines
    )


def test_images_given_up_for_one_reason_share_a_line() -> None:
    """The reason is written once, with the names of its images."""
    names = [f"reg_{n:03d}" for n in range(1, 13)]
    given = (*(EmptySlot(name, "it is black") for name in names), EmptySlot("reg_020", "refused"))
    lines = format_closing(a_summary(total=50, given_up=given)).splitlines()
    assert [text for text in lines if text.startswith("  given up ")] == [
        f"  given up     {', '.join(names[:10])} and 2 more: it is black",
        "  given up     reg_020: refused",
    ]


def test_several_servers_are_told_apart() -> None:
    """Each of several servers has a line: images made, failures, and the reason why it is away."""
    servers = {
        "a:1": ServerView(up=True, why="", made=6, busy=6.0),
        "b:1": ServerView(up=False, why="no answer", failures=3, switches=2),
    }
    lines = format_closing(a_summary(servers=servers)).splitlines()
    assert lines[1].endswith("the servers were busy 25 % of the time")
    assert lines[2:4] == [
        "  a:1          6 made, 0 failures",
        "  b:1          0 made, 3 failures, 2 checkpoint switches; no answer",
    ]


def test_the_next_step_names_the_captions_to_read() -> None:
    """kohya reads .caption unless it is told another extension."""
    last = format_closing(a_summary(captions=".txt")).splitlines()[-1]
    assert last == f"Next: train with --reg_data_dir {DATASET.parent} --caption_extension .txt"


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
def test_the_exit_code_says_how_it_ended(changes: dict[str, Any], code: int) -> None:
    """0 complete, 1 images missing, 130 stopped by the user, or the code of the error that ended it."""
    assert a_summary(**changes).exit_code == code


# ---- report.json


def test_the_report_has_every_count() -> None:
    """With the reasons and the figures of each server."""
    summary = a_summary(
        made=5,
        given_up=(EmptySlot("reg_003", "it is black"),),
        versions={"a": "0.33.0"},
        reconciled=Reconciled(adopted=["reg_001"], deleted=["reg_002"], set_aside=["reg_004.png is torn"]),
        other_recipes=(range(2),),
        stopped=BY_USER,
    )
    assert report_data(summary) == {
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


def test_a_report_of_nothing_made_divides_by_nothing() -> None:
    """Without images there are no seconds per image, and no early end where the run was not ended early."""
    facts = report_data(a_summary(before=10, made=0, servers={"a": ServerView()}))
    assert (facts["seconds_per_image"], facts["ended_early"]) == (None, None)
    assert facts["servers"]["a"]["busy_seconds_per_image"] is None
    assert facts["servers"]["a"]["comfyui"] is None


def test_the_report_replaces_the_one_before(tmp_path: Path) -> None:
    """report.json is written whole, in UTF-8, and leaves no other file beside it."""
    file = tmp_path / "report.json"
    file.write_text("the one before", encoding="utf-8")
    summary = a_summary(given_up=(EmptySlot("reg_003", "Fehler: größe"),), made=5)
    write_report(summary, file)
    assert json.loads(file.read_text(encoding="utf-8")) == report_data(summary)
    assert "größe" in file.read_text(encoding="utf-8")
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]


def test_a_report_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    """A missing folder is reported like every failure of the disk."""
    with pytest.raises(StorageError, match=r"^writing .*report\.json: "):
        write_report(a_summary(), tmp_path / "not there" / "report.json")


def test_a_file_name_that_is_no_text_does_not_cost_the_report(tmp_path: Path) -> None:
    """Bytes of a file name that are not UTF-8 are escaped."""
    file = tmp_path / "report.json"
    write_report(a_summary(reconciled=Reconciled(set_aside=["reg_001\udcff.png is torn"])), file)
    assert json.loads(file.read_text(encoding="utf-8"))["made"] == 6
