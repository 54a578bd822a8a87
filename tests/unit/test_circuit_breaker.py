"""A server's sickness: bad pictures, or no memory, prompt after prompt."""

from __future__ import annotations

from reggen.scheduler.circuit_breaker import SICK, CircuitBreaker, ServerCare


def breaker() -> CircuitBreaker:
    return CircuitBreaker(lambda ceiling: ceiling)


def test_three_bad_prompts_free_its_memory_three_more_let_it_rest() -> None:
    """A restart is the last resort."""
    one = breaker()
    cares = [one.prompt_was_bad(0.0, 60.0) for _ in range(2 * SICK)]
    assert [care for care in cares if care is not ServerCare.NOTHING] == [ServerCare.FREE, ServerCare.REST]
    assert one.rests_until == 60.0
    assert not one.is_open(61.0), "first it is probed"


def test_each_spell_lets_it_rest_longer_and_asks_for_a_restart() -> None:
    """What is sick again after a rest is not cured by rest."""
    one, now, rests = breaker(), 0.0, []
    for _ in range(2 * SICK):
        one.prompt_was_bad(now, 60.0)
    for _ in range(8):
        rests.append(one.rests_until - now)
        now = one.rests_until
        cares = [one.prompt_was_bad(now, 60.0) for _ in range(SICK)]
        assert cares[-1] is ServerCare.RESTART
    assert rests[:3] == [60.0, 120.0, 240.0]
    assert max(rests) <= 1800.0


def test_one_good_picture_cures_it() -> None:
    """Then it may be sick as if for the first time."""
    one = breaker()
    for _ in range(2 * SICK):
        one.prompt_was_bad(0.0, 60.0)
    one.image_made()
    assert not one.on_trial
    assert [one.prompt_was_bad(100.0, 60.0) for _ in range(SICK)][-1] is ServerCare.FREE


def test_a_prompt_that_ends_badly_is_no_cure() -> None:
    """A sick server stays on trial until a good picture comes."""
    one = breaker()
    for _ in range(2 * SICK):
        one.prompt_was_bad(0.0, 60.0)
    one.prompt_ended()
    assert one.on_trial
