"""Wrong answers, told apart by what they say of the next one. No clock."""

from __future__ import annotations

import pytest

from reggen.comfy.refusals import Refusals, is_by_proxy, is_missing, is_permanent
from reggen.comfy.timings import Timings
from reggen.errors import HttpStatusError, InvalidResponse, ServerError, Unreachable

DOING = "downloading an image"


def refused(status: int, body: str = "") -> HttpStatusError:
    return HttpStatusError("here", DOING, status, body)


PAGE, SHORT = (
    InvalidResponse("here", DOING, 'a web page ("Sign in")', is_web_page=True),
    InvalidResponse("here", DOING, "3 bytes came of 9"),
)
GONE = Unreachable("here", DOING, "connection refused")


@pytest.mark.parametrize(
    ("error", "permanent", "front"),
    [
        (refused(400), True, False),
        (refused(401), True, True),
        (refused(403, "blocked"), True, True),
        (refused(405), True, True),
        (refused(407), True, True),
        (PAGE, True, True),
        (refused(404, "<html>"), True, False),
        (refused(413), True, False),
        (refused(408), False, False),
        (refused(425), False, False),
        (refused(429), False, False),
        (refused(500), False, False),
        (refused(502), False, False),
        (SHORT, False, False),
        (GONE, False, False),
    ],
)
def test_who_says_no_and_for_how_long(error: ServerError, *, permanent: bool, front: bool) -> None:
    """Somebody in front says no to everything alike; a failure of this picture, or of this moment, is neither's."""
    assert is_permanent(error) == permanent
    assert is_by_proxy(error) == front


def test_only_comfyui_s_own_404_says_that_a_file_is_missing() -> None:
    """It has no body; a proxy's has words, or a page."""
    assert is_missing(refused(404))
    assert not is_missing(refused(404, "<html><title>404 Not Found</title></html>"))
    assert not is_missing(refused(403))
    assert not is_missing(GONE)


def test_pauses_grow_while_it_refuses_and_start_over_after() -> None:
    """Twice as long each time, up to fifteen times the first."""
    refusals, pauses = Refusals(Timings(poll_interval=2.0), jitter=lambda _: 0.0), list[float]()
    for _ in range(6):
        refusals.begin(refused(401), 100.0)
        pauses.append(refusals.ask_at - 100.0)
    assert pauses == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    refusals.end()
    refusals.begin(refused(401), 200.0)
    assert refusals.ask_at == 202.0


def test_the_reason_says_what_was_asked_and_what_to_do() -> None:
    """The last answer's, as it can change."""
    refusals = Refusals(Timings())
    refusals.begin(refused(502), 0.0)
    refusals.begin(refused(401), 1.0)
    assert refusals.why.startswith(f"{DOING}: HTTP 401; give this server valid credentials")
