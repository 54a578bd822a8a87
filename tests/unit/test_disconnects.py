"""Words for events that do not come: one cut is none, many are reported once. No clock."""

from __future__ import annotations

from reggen.comfy.disconnects import Disconnects


def cut(times: int, every: float = 10.0) -> Disconnects:
    """Sockets that were cut so many times, the first after one pause."""
    cuts = Disconnects()
    for number in range(1, times + 1):
        cuts.opened()
        cuts.cut(number * every, every)
    return cuts


def test_one_cut_is_not_worth_a_word() -> None:
    """Nor are two; the third within five minutes is, with what to do."""
    assert cut(1).why(10.0) == cut(2).why(20.0) == ""
    said = cut(3).why(30.0)
    assert "cut again and again, the last after 10 s" in said
    assert "proxy_read_timeout" in said


def test_further_cuts_say_the_same_again() -> None:
    """In the same words, so that nothing new is reported."""
    cuts = cut(3)
    said = cuts.why(30.0)
    cuts.opened()
    cuts.cut(95.0, 65.0)
    assert cuts.why(95.0) == said


def test_cuts_that_are_far_apart_are_none() -> None:
    """A proxy that is reloaded every few hours."""
    assert cut(20, every=200.0).why(4000.0) == ""


def test_a_socket_that_holds_ends_the_words() -> None:
    """Five minutes after the first of the last three; what is cut often after that is reported again."""
    cuts = cut(3)
    assert cuts.why(309.0)
    assert cuts.why(310.0) == ""
    for now in (1000.0, 1005.0, 1010.0):
        cuts.cut(now, 5.0)
    assert "the last after 5 s" in cuts.why(1010.0)


def test_a_socket_that_cannot_be_opened_is_reported_at_once() -> None:
    """With its reason, until one is open."""
    cuts = Disconnects()
    cuts.failed("connection refused")
    assert cuts.why(0.0) == "no events (connection refused); polling instead"
    cuts.opened()
    assert cuts.why(0.0) == ""


def test_an_answer_in_place_of_a_socket_comes_with_what_a_proxy_needs() -> None:
    """Something that speaks HTTP let the request through, and not its upgrade."""
    cuts = Disconnects()
    cuts.failed("HTTP 404")
    assert cuts.why(0.0).startswith("no events (HTTP 404); polling instead (does a proxy block WebSockets?")
    assert "proxy_set_header Upgrade $http_upgrade;" in cuts.why(0.0)


def test_what_cannot_be_opened_comes_before_what_was_cut() -> None:
    """And what was cut often is remembered behind it; a cut says that one had been open."""
    cuts = cut(3)
    cuts.failed("HTTP 502")
    assert "HTTP 502" in cuts.why(31.0)
    cuts.cut(32.0, 1.0)
    assert "again and again" in cuts.why(32.0)
