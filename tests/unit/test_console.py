"""The display of a run on a terminal, and its lines elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from reggen.engine.control import Observers
from reggen.progress import ImageSaved, Progress, RunEvent, RunStarted, Scanning, ServersAwaited
from reggen.report.console import Display

BEGAN = RunStarted(0.0, 10, 0, ("a", "b"))


class Screen:
    """A display on a terminal of this test's own; events reach it as those of a run do."""

    def __init__(self, width: int = 120, later: int = 0) -> None:
        self._out, self._width = io.StringIO(), width
        console = Console(file=self._out, width=width, force_terminal=False)
        self._display = Display(console, "a: girl", progress := Progress(), later)
        self._observers = Observers(self._display.tell, progress=progress)

    def tell(self, *events: RunEvent) -> None:
        for event in events:
            self._observers.tell(event)

    @property
    def lines(self) -> list[str]:
        """What was printed, without the times."""
        return [text.partition(" ")[2] for text in self._out.getvalue().splitlines()]

    def drawn(self, at: float = 20.0) -> str:
        """The live display at a moment."""
        out = io.StringIO()
        Console(file=out, width=self._width).print(self._display.render(lambda: at))
        return out.getvalue()


def test_the_display_shows_the_scan_before_the_run_begins() -> None:
    """It never shows 0 of 0 while the number of wanted images is unknown."""
    screen = Screen()
    assert "checking the folder" in screen.drawn()
    assert "0 of 0" not in screen.drawn()
    screen.tell(Scanning(10.0, 872, 5000))
    assert "checking the images in the folder: 872 of 5,000" in screen.drawn()
    assert "0 of 0" not in screen.drawn()
    screen.tell(Scanning(11.0, 5000, 5000), BEGAN)
    assert "checking" not in screen.drawn()
    assert "0 of 10" in screen.drawn()


def test_lines_about_a_scan_come_every_ten_seconds() -> None:
    """The first at once; not one for each image."""
    screen = Screen()
    screen.tell(*(Scanning(float(at), at, 5000) for at in range(100, 125)))
    assert screen.lines == [f"checking the images in the folder: {at} of 5,000" for at in (100, 110, 120)]


def test_the_display_shows_the_whole_reason_why_no_server_can_be_used() -> None:
    """On a narrow terminal too: the end of the reason says what to do."""
    screen = Screen(width=60)
    why = "reading the queue: HTTP 401: Unauthorized; give this server valid credentials in [[servers]]: headers"
    screen.tell(BEGAN, ServersAwaited(11.0, why))
    assert why in " ".join(screen.drawn().split())


def test_the_end_is_estimated_once_and_for_all_classes() -> None:
    """After the first minutes a line says when the run will end, with the images that the next classes lack."""
    screen = Screen(width=160, later=20)
    screen.tell(RunStarted(0.0, 10, 0, ("a",)))
    screen.tell(*(ImageSaved(at, "a", f"reg_{at:03.0f}", 60.0) for at in (60.0, 130.0, 200.0)))
    (line,) = (text for text in screen.lines if "at this rate" in text)
    assert "all classes will be ready at" in line
    assert "in 32 min 40 s" in line  # 28 images remain at 70 s each
    head = screen.drawn(200.0).splitlines()[0]
    assert "8 min 10 s left, ready at" in head
    assert "all classes at" in head


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """An editor's shell cannot draw over what it has shown."""
    out = io.StringIO()
    monkeypatch.setenv("TERM", "dumb")
    console = Console(file=out, force_terminal=True)
    display = Display(console, "a: girl", progress := Progress())
    Observers(display.tell, progress=progress).tell(BEGAN)
    assert out.getvalue().strip()
