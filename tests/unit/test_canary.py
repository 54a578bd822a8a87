"""Deaf sockets are found by the frame that must follow a post. No sockets, no clock."""

from __future__ import annotations

import math

from reggen.comfy.canary import Canary
from reggen.comfy.timings import Timings


def opened() -> Canary:
    """A socket that was opened and greeted at 0."""
    canary = Canary(Timings(canary=10.0))
    canary.opened(0.0)
    canary.frame(0.0)
    return canary


def test_before_the_first_socket_nobody_hears() -> None:
    """Prompts are polled until one is open."""
    canary = Canary(Timings())
    assert not canary.is_open
    assert not canary.is_hearing


def test_a_frame_during_a_post_is_its_canary() -> None:
    """Also one at the very moment at which it began: the clock is no finer."""
    canary = opened()
    canary.frame(1.0)
    canary.posted(1.0, 1.1)
    assert canary.due_at == math.inf


def test_without_a_post_silence_proves_nothing() -> None:
    """An idle server has nothing to say."""
    canary = opened()
    assert canary.due_at == math.inf
    assert not canary.check(1e9)
    assert canary.is_hearing


def test_no_frame_after_a_post_means_deaf_once() -> None:
    """Ten seconds after the answer; the caller then replaces the socket."""
    canary = opened()
    canary.posted(1.0, 1.1)
    assert canary.due_at == 11.1
    assert [canary.check(now) for now in (11.0, 11.1, 11.2)] == [False, True, False]
    assert canary.found_deaf


def test_a_second_post_does_not_put_the_canary_off() -> None:
    """Its time counts from the first post that was not followed by a frame."""
    canary = opened()
    canary.posted(1.0, 1.1)
    canary.posted(5.0, 5.1)
    assert canary.due_at == 11.1


def test_after_a_deaf_socket_the_next_must_hear_more_than_its_greeting() -> None:
    """A server that is stuck greets every new socket."""
    canary = opened()
    canary.posted(1.0, 1.1)
    canary.check(12.0)
    canary.closed()
    canary.opened(13.0)
    hearing = []
    for now in (13.0, 14.0):
        canary.frame(now)
        hearing.append(canary.is_hearing)
    assert canary.is_open
    assert hearing == [False, True]


def test_a_post_without_a_socket_expects_nothing() -> None:
    """Nobody could hear the frame."""
    canary = opened()
    canary.closed()
    canary.posted(1.0, 1.1)
    assert (canary.is_open, canary.due_at) == (False, math.inf)
