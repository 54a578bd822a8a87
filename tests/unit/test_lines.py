"""One line for each event of a run, and lengths of time as people write them."""

from __future__ import annotations

import pytest

from reggen.progress import (
    ImageSaved,
    Progress,
    PromptLeft,
    PromptPosted,
    PromptsTakenOver,
    RunEvent,
    RunPaused,
    RunStarted,
    RunStopping,
    Scanning,
    ServerChanged,
    ServersAwaited,
    SlotGivenUp,
    SlotsReopened,
    Trouble,
)
from reggen.report.lines import format_duration, format_event

BEGAN = RunStarted(0.0, 10, 0, ("a", "b"))


def last_line(*events: RunEvent) -> str | None:
    """The line for the last event."""
    state, text = Progress(), None
    for event in events:
        state.apply(event)
        text = format_event(event, state)
    return text


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (RunStarted(0, 10, 0, ("a", "b")), "10 images wanted; servers: a, b"),
        (RunStarted(0, 10, 4, ("a",)), "10 images wanted, 4 already present; servers: a"),
        (RunStarted(0, 1, 0, ("a",)), "1 image wanted; servers: a"),
        (Scanning(0, 872, 5000), "checking the images in the folder: 872 of 5,000"),
        (PromptsTakenOver(1, "a", ("reg_001", "reg_002")), "reg_001, reg_002 taken over from an earlier run on a"),
        (SlotsReopened(1, ("reg_001",)), "reg_001: deleted or damaged during the run; made again"),
        (RunPaused(1, "the disk is full"), "paused: the disk is full"),
        (RunPaused(1, ""), "resumed"),
        (ServersAwaited(1, "no answer"), "no server can be used; waiting for one (no answer)"),
        (ServersAwaited(1, ""), "a server can be used again"),
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
def test_each_event_has_its_line(event: RunEvent, text: str | None) -> None:
    """An event is one sentence; events that only the live display shows have none."""
    assert last_line(BEGAN, event) == text


def test_a_saved_image_says_how_much_time_is_left() -> None:
    """From the second image on, when the rate is known."""
    events = [ImageSaved(float(at), "a", f"reg_{at:03d}", None) for at in (2, 4)]
    assert last_line(BEGAN, *events) == "reg_004 made on a (2/10, 16 s left)"


def test_one_event_is_one_line() -> None:
    """A message of several lines becomes one, so that every line of the log has its time."""
    text = last_line(BEGAN, Trouble(1, "a", "Traceback:\n  File x\nboom"))
    assert text is not None
    assert "\n" not in text


@pytest.mark.parametrize(
    ("seconds", "text"),
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
def test_a_duration_is_written_as_people_write_it(seconds: float, text: str) -> None:
    """Seconds below a minute, minutes below an hour, hours beyond; never 60 of anything."""
    assert format_duration(seconds) == text
