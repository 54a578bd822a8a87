"""Notices over a real socket: Apprise posts JSON to a small server of this test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from reggen.engine.summary import EmptySlot, Summary
from reggen.errors import JobError, NoUsableServer
from reggen.job.servers import Notify
from reggen.progress import RunPaused, ServersAwaited
from reggen.report.notify import Notices
from tests.answering import answering
from tests.conftest import eventually


@asynccontextmanager
async def mailbox(status: int = 200) -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """An address for Apprise, and what arrives there."""
    letters: list[dict[str, Any]] = []

    async def post(request: web.Request) -> web.Response:
        letters.append(await request.json())
        return web.Response(status=status)

    async with answering(post) as url:
        yield f"{url.replace('http', 'json')}/s3cret", letters


def notices(*urls: str, **environ: str) -> Notices:
    return Notices(Notify.model_validate({"urls": urls}), "spyke.toml", environ)


def summary(missing: int = 0) -> Summary:
    given_up = tuple(EmptySlot(f"reg_{number:03d}", "cursed") for number in range(missing))
    return Summary("spyke.toml", Path("reg"), 10, 0, 10 - missing, 60.0, "now", given_up)


async def test_the_end_of_a_run_is_told() -> None:
    """Complete, or with gaps; before the program ends."""
    async with mailbox() as (url, letters):
        await notices("${WHERE}", WHERE=url).finished(summary())
        await notices(url).finished(summary(missing=3))
    assert [letter["message"] for letter in letters] == [
        "finished: 10 of 10 images",
        "finished with gaps: 7 of 10 images, 3 given up",
    ]
    assert letters[0]["title"] == "reggen: spyke.toml"


async def test_a_pause_is_told_at_once() -> None:
    """A full disk at two in the morning is worth waking up for."""
    async with mailbox() as (url, letters):
        one = notices(url)
        one.tell(RunPaused(0.0, "the disk is full"))
        await eventually(lambda: len(letters) == 1)
        one.tell(RunPaused(1.0, ""))
        await one.finished(summary())
    assert [letter["message"] for letter in letters] == ["paused: the disk is full", "finished: 10 of 10 images"]


async def test_being_stuck_is_told_after_a_while_and_only_when_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server that can be used: an outage that ends in time is no news."""
    monkeypatch.setattr("reggen.report.notify._STUCK", 0.05)
    async with mailbox() as (url, letters):
        short, long = notices(url), notices(url)
        short.tell(ServersAwaited(0.0, "a:1: connection refused"))
        short.tell(ServersAwaited(0.01, ""))
        long.tell(ServersAwaited(0.0, "b:1: connection refused"))
        await eventually(lambda: len(letters) == 1)
        await short.finished(summary())
        await eventually(lambda: len(letters) == 2)
    assert letters[0]["message"].startswith("stuck: no server could be used")
    assert "b:1: connection refused" in letters[0]["message"]
    assert letters[1]["message"].startswith("finished")


async def test_a_run_that_could_not_begin_is_told_too() -> None:
    """Somebody went to bed believing that it runs."""
    async with mailbox() as (url, letters):
        await notices(url).failed(NoUsableServer((("a:1", "connection refused"),)))
    assert letters[0]["message"].startswith("failed: no ComfyUI server can be used")


@pytest.mark.parametrize("url", ["json://127.0.0.1:9/s3cret", None])
async def test_a_notice_that_fails_disturbs_nothing(url: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody listens, or the service refuses: the run neither ends nor tells the secret address."""
    async with mailbox(status=500) as (refusing, _):
        await notices(url or refusing).finished(summary())
    captured = capsys.readouterr()
    assert "s3cret" not in captured.out + captured.err


def test_a_wrong_address_is_told_before_the_night() -> None:
    """All of them at once, none with its text: they are secrets."""
    with pytest.raises(JobError) as caught:
        notices("nonsense://s3cret", "${UNSET}")
    assert "no address that Apprise understands" in str(caught.value)
    assert "the environment has no UNSET" in str(caught.value)
    assert "s3cret" not in str(caught.value)
