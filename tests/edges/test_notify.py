"""Notices over a real socket: Apprise posts JSON to a small server in this test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import reggen
from reggen.engine.summary import EmptySlot, Summary
from reggen.errors import JobError, NoUsableServer
from reggen.job.servers import Notify
from reggen.progress import RunPaused, ServersAwaited
from reggen.report.notify import Notices
from tests.answering import answering
from tests.conftest import JobMaker, eventually


@asynccontextmanager
async def mailbox(status: int = 200) -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """An address for Apprise, and the list of notices that arrive there."""
    received: list[dict[str, Any]] = []

    async def post(request: web.Request) -> web.Response:
        received.append(await request.json())
        return web.Response(status=status)

    async with answering(post) as url:
        yield f"{url.replace('http', 'json')}/s3cret", received


def notices(*urls: str, stuck_after: float = 600.0, **environ: str) -> Notices:
    return Notices(Notify.model_validate({"urls": urls}), "spyke.toml", environ, stuck_after=stuck_after)


def summary(missing: int = 0) -> Summary:
    given_up = tuple(EmptySlot(f"reg_{number:03d}", "cursed") for number in range(missing))
    return Summary("spyke.toml", Path("reg"), 10, 0, 10 - missing, 60.0, "now", given_up)


async def test_the_end_of_a_run_is_notified() -> None:
    """Complete or with gaps, and before the program ends."""
    async with mailbox() as (url, received):
        await notices("${WHERE}", WHERE=url).finished(summary())
        await notices(url).finished(summary(missing=3))
    assert [notice["message"] for notice in received] == [
        "finished: 10 of 10 images",
        "finished with gaps: 7 of 10 images, 3 given up",
    ]
    assert received[0]["title"] == "reggen: spyke.toml"


async def test_a_pause_is_notified_at_once() -> None:
    """A full disk needs somebody to make room."""
    async with mailbox() as (url, received):
        one = notices(url)
        one.tell(RunPaused(0.0, "the disk is full"))
        await eventually(lambda: len(received) == 1)
        one.tell(RunPaused(1.0, ""))
        await one.finished(summary())
    assert [notice["message"] for notice in received] == ["paused: the disk is full", "finished: 10 of 10 images"]


async def test_an_outage_is_notified_only_when_it_lasts() -> None:
    """An outage of all servers that ends in time sends nothing."""
    async with mailbox() as (url, received):
        short, long = notices(url, stuck_after=0.05), notices(url, stuck_after=0.05)
        short.tell(ServersAwaited(0.0, "a:1: connection refused"))
        short.tell(ServersAwaited(0.01, ""))
        long.tell(ServersAwaited(0.0, "b:1: connection refused"))
        await eventually(lambda: len(received) == 1)
        await short.finished(summary())
        await eventually(lambda: len(received) == 2)
    assert received[0]["message"].startswith("stuck: no server could be used")
    assert "b:1: connection refused" in received[0]["message"]
    assert received[1]["message"].startswith("finished")


async def test_a_run_that_could_not_begin_is_notified() -> None:
    """The user believes that it is running."""
    async with mailbox() as (url, received):
        await notices(url).failed(NoUsableServer((("a:1", "connection refused"),)))
    assert received[0]["message"].startswith("failed: no ComfyUI server can be used")


@pytest.mark.parametrize("url", ["json://127.0.0.1:9/s3cret", None])
async def test_a_failing_notice_does_not_disturb_the_run(url: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    """Where nobody listens or the service refuses, the run continues and the secret address is not printed."""
    async with mailbox(status=500) as (refusing, _):
        await notices(url or refusing).finished(summary())
    captured = capsys.readouterr()
    assert "s3cret" not in captured.out + captured.err


def test_wrong_addresses_are_reported_before_the_run() -> None:
    """All of them at once, without their text, since they are secrets."""
    with pytest.raises(JobError) as caught:
        notices("nonsense://s3cret", "${UNSET}")
    assert "not an address that Apprise understands" in str(caught.value)
    assert "the environment has no UNSET" in str(caught.value)
    assert "s3cret" not in str(caught.value)


async def test_a_notice_that_fails_leaves_a_line() -> None:
    """With the words that were lost, and the command that tries the addresses; never the address itself."""
    said: list[str] = []
    async with mailbox(status=500) as (url, _):
        one = notices(url)
        one.on_failure = said.append
        await one.finished(summary())
    assert said == [
        "a notice could not be sent (finished: 10 of 10 images); `python -m reggen notify JOB` tries the addresses"
    ]


async def test_the_addresses_of_a_job_are_tried_one_by_one(job: JobMaker) -> None:
    """`reggen notify`: which service took the trial notice, without the address, and exit code 1 where one did not."""
    async with mailbox() as (good, received), mailbox(status=500) as (bad, _):
        tried = await asyncio.to_thread(reggen.notify, job(notify={"urls": [good, bad]}))
    assert (tried.taken, tried.exit_code) == ((True, False), 1)
    assert str(tried).startswith("notify.urls[0]: sent\nnotify.urls[1]: NOT sent: ")
    assert "s3cret" not in str(tried)
    assert len(received) == 1


def test_a_job_without_addresses_has_nothing_to_try(job: JobMaker) -> None:
    """The key is named."""
    with pytest.raises(JobError, match=r"notify\.urls: is missing"):
        reggen.notify(job())
