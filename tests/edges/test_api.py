"""The public API against stand-ins: the same runs as the command line's, in programs and in notebooks."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import reggen
from reggen.api.events import ClassFinished, ClassStarted, Note
from reggen.errors import COMPLETE, NO_SERVER, STOPPED
from reggen.sim import Settings, serve
from tests.conftest import NOWHERE, eventually
from tests.invariants import assert_sound

ROOT = Path(__file__).parents[2]
Tables = Callable[..., dict[str, Any]]


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    """A maker of jobs as tables: small pictures, into a folder of this test's own."""

    def make(*urls: str, **sections: Any) -> dict[str, Any]:
        document: dict[str, Any] = {
            "servers": list(urls) or [NOWHERE],
            "dataset": {"root": str(tmp_path / "reg"), "class": "thing", "count": 6},
            "sampling": {"checkpoint": "AnythingXL_inkBase.safetensors", "width": 64, "height": 64},
            "prompts": {"positive": ["a cat", "a <b>dog</b>"], "negative": ""},
        }
        for name, values in sections.items():
            document[name] = {**document.get(name, {}), **values} if isinstance(values, dict) else values
        return document

    return make


def boys_and_girls(tables: Tables, *urls: str) -> reggen.Job:
    """Three images of each of two classes."""
    document = tables(*urls, **{"class": [{"words": "boy"}, {"words": "girl"}]})
    del document["dataset"]["class"]
    return reggen.load(document)


def made(job: reggen.Job) -> list[str]:
    return sorted(file.name for file in job.dataset.root.rglob("*.png"))


# ---- a job


def test_a_job_is_the_same_from_its_file_and_from_its_tables(tmp_path: Path, tables: Tables) -> None:
    """And what is given beside it goes over both."""
    file = tmp_path / "job.toml"
    file.write_text(
        f"""
        servers = ["{NOWHERE}"]
        dataset = {{ root = '{tmp_path / "reg"}', class = "thing", count = 6 }}
        sampling = {{ checkpoint = "AnythingXL_inkBase.safetensors", width = 64, height = 64 }}
        prompts = {{ positive = ["a cat", "a <b>dog</b>"], negative = "" }}
        """,
        encoding="utf-8",
    )
    read, given = reggen.load(file), reggen.load(tables())
    assert read.model_dump() == given.model_dump()
    assert (read.source, given.source) == (str(file), "the job")
    changed = reggen.load(tables(), count=3, output=tmp_path / "other", servers=["http://127.0.0.1:7"])
    assert (changed.dataset.count, changed.dataset.root) == (3, tmp_path / "other")
    assert [server.name for server in changed.servers] == ["127.0.0.1:7"]


def test_all_that_is_wrong_with_a_job_is_said_at_once(tables: Tables) -> None:
    """As on the command line, under the keys of the job file."""
    with pytest.raises(reggen.JobError) as raised:
        reggen.load(tables(dataset={"count": 0, "colour": "red"}, sampling={"width": 65}))
    assert {problem.key for problem in raised.value.problems} == {"dataset.count", "dataset.colour", "sampling.width"}
    assert str(raised.value).startswith("the job has 3 problems:\n")


# ---- plan, check, status, doctor


def test_a_plan_can_be_looked_at(tables: Tables) -> None:
    """It has a length and samples, over all classes, and computes none before it is asked."""
    plan = reggen.plan(boys_and_girls(tables))
    assert len(plan) == 6
    assert [sample.name for sample in plan] == ["reg_001", "reg_002", "reg_003"] * 2
    assert (plan[2].name, plan[3].name, plan[-1].index) == ("reg_003", "reg_001", 2)
    assert plan[3].seed != plan[0].seed
    assert [dataset.class_tokens for dataset in plan.datasets] == ["boy", "girl"]
    for outside in (6, -7):
        with pytest.raises(IndexError):
            plan[outside]
    assert len(reggen.plan(reggen.load(tables(dataset={"count": 10_000_000})))) == 10_000_000


def test_a_plan_prints_as_the_command_does_and_is_a_table_in_a_notebook(tables: Tables) -> None:
    """Text from prompts is escaped."""
    plan = reggen.plan(reggen.load(tables()))
    assert str(plan).startswith("the job: 6 images\n  folder ")
    assert repr(plan) == "<JobPlan of the job: 6 images>"
    html = plan._repr_html_()
    assert "<td>a &lt;b&gt;dog&lt;/b&gt;</td>" in html
    assert "<b>" not in html


async def test_a_check_says_whether_a_run_can_begin(tables: Tables) -> None:
    """With a server that can take the job it can; without one it cannot, and the exit code is the command's."""
    async with serve(Settings()) as sim:
        report = await reggen.check(reggen.load(tables(sim.url)))
    assert (report.ready, report.exit_code, [one.ready for one in report.servers]) == (True, COMPLETE, [True])
    assert "ready" in str(report)
    report = await reggen.check(reggen.load(tables()))
    assert (report.ready, report.exit_code) == (False, NO_SERVER)
    assert report._repr_html_().startswith("<pre>the job: ")


async def test_what_is_not_asynchronous_works_while_a_loop_runs(tables: Tables) -> None:
    """As in a notebook: each call has a loop of its own, in a thread."""
    assert not reggen.check_sync(reggen.load(tables())).ready
    job, threads = reggen.load(tables()), set[str]()
    summary = reggen.run_sync(job, rehearse=True, on_event=lambda _: threads.add(threading.current_thread().name))
    assert (summary.complete, threads) == (True, {"reggen-loop"})
    with pytest.raises(reggen.NoUsableServer):
        reggen.run_sync(reggen.load(tables(), output=job.dataset.root / "other"))


def test_status_reject_and_doctor_see_what_a_run_has_made(tables: Tables) -> None:
    """A rejected image is missing, and the next run makes another in its place."""
    job = reggen.load(tables())
    assert reggen.status(job).missing == 6
    reggen.run_sync(job, rehearse=True)
    status = reggen.status(job)
    assert (status.wanted, status.done, status.missing) == (6, 6, 0)
    assert "6 of 6 done" in str(status)
    before = (job.dataset.root / "1_thing" / "reg_002.png").read_bytes()
    assert reggen.reject(job, [2, "4-5"], why="ugly").set_aside == ("reg_002", "reg_004", "reg_005")
    assert reggen.status(job).classes[0].rejected == {"reg_002": "ugly", "reg_004": "ugly", "reg_005": "ugly"}
    assert reggen.purge(job) == 3
    assert reggen.run_sync(job, rehearse=True).made == 3
    assert (job.dataset.root / "1_thing" / "reg_002.png").read_bytes() != before
    examined = reggen.doctor(job, resolution=(64, 64), min_bucket_reso=64)
    assert (examined.well, examined.report.folders[0].images, examined.fixed) == (True, 6, ())
    assert str(examined).endswith("All is well.")
    assert reggen.doctor(job.dataset.root, resolution=(64, 64), min_bucket_reso=64).well
    assert "--reg_data_dir" in reggen.trainer_settings(job, "kohya").text


def test_the_doctor_fixes_and_says_how_to_replace_what_was_taken_out(tables: Tables) -> None:
    """A job from tables has no command line: the call is named."""
    job = reggen.load(tables())
    reggen.run_sync(job, rehearse=True)
    broken = job.dataset.root / "1_thing" / "reg_003.png"
    broken.write_bytes(broken.read_bytes()[:100])
    fixes: list[str] = []
    examined = reggen.doctor(job, resolution=(64, 64), min_bucket_reso=64, fix=True, on_fix=fixes.append)
    assert (examined.taken_out, examined.well, examined.fixed) == (1, False, tuple(fixes))
    assert examined.then.endswith("Next: reggen.run(job, rehearse=True)")
    assert examined.as_json()["taken_out"] == 1


# ---- a run


async def test_a_run_gives_its_events_and_its_summary(tables: Tables) -> None:
    """Each class begins and ends with an event of its own; report, listing and log are written."""
    async with serve(Settings()) as sim, serve(Settings()) as other:
        job = reggen.load(tables(sim.url, other.url, dataset={"listings": ["csv"]}))
        async with reggen.run(job) as running:
            events = [event async for event in running]
            summary = await running.summary()
        assert (sim.count("POST", "/prompt") > 0, other.count("POST", "/prompt") > 0) == (True, True)
    started, finished = events[0], events[-1]
    assert isinstance(started, ClassStarted)
    assert isinstance(finished, ClassFinished)
    assert (started.class_tokens, started.number, started.classes, started.later) == ("thing", 1, 1, 0)
    assert sum(isinstance(event, reggen.ImageSaved) for event in events) == summary.made == 6
    assert (summary.complete, summary.exit_code, summary.classes) == (True, COMPLETE, (finished.summary,))
    assert str(summary) == finished.text
    state = job.dataset.root / ".reggen" / "1_thing"
    assert json.loads((state / "report.json").read_text(encoding="utf-8"))["made"] == 6
    assert len((job.dataset.root / "1_thing.csv").read_text(encoding="utf-8").splitlines()) == 7
    assert "Complete: 6 of 6 images" in (state / "run.log").read_text(encoding="utf-8")
    assert "<td>6 of 6</td>" in summary._repr_html_()
    assert_sound(job)


async def test_the_classes_of_a_job_are_made_one_after_the_other(tables: Tables) -> None:
    """The first says what the others lack, and the summary is over both."""
    job = boys_and_girls(tables)
    async with reggen.run(job, rehearse=True) as running:
        events = [event async for event in running]
        summary = await running.summary()
    started = [(event.class_tokens, event.number, event.later) for event in events if isinstance(event, ClassStarted)]
    assert started == [("boy", 1, 3), ("girl", 2, 0)]
    assert [one.made for one in summary.classes] == [3, 3]
    assert (summary.total, summary.made, summary.missing, summary.not_begun) == (6, 6, 0, ())
    assert "Now: girl" in str(summary)


@pytest.mark.parametrize("way", ["break", "error", "cancel"])
async def test_leaving_early_finishes_what_is_in_flight(tables: Tables, way: str) -> None:
    """Whether the block ends, raises or is cancelled: nothing stays on the server, and the next run goes on."""
    job: reggen.Job
    running: reggen.JobRun

    async def leave() -> None:
        nonlocal running
        async with reggen.run(job) as running:
            async for event in running:
                if isinstance(event, reggen.ImageSaved):
                    if way == "error":
                        raise LookupError
                    if way == "break":
                        break
                    task.cancel()

    async with serve(Settings(seconds=0.05)) as sim:
        job = reggen.load(tables(sim.url, dataset={"count": 40}))
        task = asyncio.create_task(leave())
        (ended,) = await asyncio.gather(task, return_exceptions=True)
        expected: dict[str, type] = {"error": LookupError, "cancel": asyncio.CancelledError, "break": type(None)}
        assert isinstance(ended, expected[way])
        summary = await running.summary()
        assert (summary.exit_code, summary.interrupted, summary.complete) == (STOPPED, True, False)
        assert sim.world.remaining == 0
        assert 0 < len(made(job)) == summary.made == sim.count("POST", "/prompt") < 40
        report = json.loads((job.dataset.root / ".reggen" / "1_thing" / "report.json").read_text(encoding="utf-8"))
        assert (report["exit_code"], report["made"]) == (STOPPED, summary.made)
        assert_sound(job, complete=False)
        async with reggen.run(job) as again:
            assert (await again.summary()).complete
        assert sim.count("POST", "/prompt") == 40


async def test_a_second_stop_leaves_at_once(tables: Tables) -> None:
    """Own prompts are taken out of the queue; so is it when a cancellation comes while the block is left."""
    async with serve(Settings(seconds=30.0)) as sim:
        job = reggen.load(tables(sim.url))
        async with reggen.run(job) as running:
            await eventually(lambda: sim.count("POST", "/prompt") >= 2)
            running.stop()
            running.stop()
            summary = await running.summary()
        assert (summary.exit_code, summary.made, running.stops) == (STOPPED, 0, 2)

        async def leave() -> None:
            async with reggen.run(job):
                await eventually(lambda: sim.count("POST", "/prompt") >= 4)

        task = asyncio.create_task(leave())
        await eventually(lambda: sim.count("POST", "/prompt") >= 4)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 30)
        await eventually(lambda: sim.world.remaining == 0)
        assert made(job) == []


async def test_a_run_that_is_stopped_between_two_classes_leaves_the_rest_for_the_next(tables: Tables) -> None:
    """The exit code tells that not everything was begun, though the class that was begun is complete."""
    job = boys_and_girls(tables)

    def stop(event: reggen.Event) -> None:
        if isinstance(event, ClassFinished):
            running.stop()

    running = reggen.run(job, rehearse=True, on_event=stop)
    async with running:
        summary = await running.summary()
    assert [one.missing for one in summary.classes] == [0]
    assert (summary.not_begun, summary.exit_code, summary.complete) == (("girl",), STOPPED, False)
    assert str(summary).endswith("Not begun: girl. The same command goes on there.")


async def test_a_run_that_is_stopped_before_it_begins_makes_nothing(tables: Tables) -> None:
    """There is a summary all the same."""
    async with serve(Settings()) as sim:
        running = reggen.run(reggen.load(tables(sim.url)))
        running.stop()
        async with running:
            summary = await running.summary()
        assert sim.count("POST", "/prompt") == 0
    assert (summary.classes, summary.not_begun, summary.exit_code) == ((), ("thing",), STOPPED)
    assert str(summary).startswith("Stopped before the first image")


@pytest.mark.parametrize("asks", ["events", "summary", "nothing"])
async def test_what_ends_a_run_before_it_makes_anything_is_raised_once(tables: Tables, asks: str) -> None:
    """By iteration or by the summary where one of them is awaited; else on leaving."""
    raised: list[BaseException] = []

    async def use(running: reggen.JobRun) -> None:
        if asks == "events":
            async for _ in running:
                pass
        elif asks == "summary":
            await running.summary()
        else:
            await eventually(lambda: running._task is not None and running._task.done())

    async def whole() -> None:
        async with reggen.run(reggen.load(tables(limits={"connect": 1.0}))) as running:
            try:
                await use(running)
            except reggen.NoUsableServer as error:
                raised.append(error)
                raise

    with pytest.raises(reggen.NoUsableServer):
        await whole()
    assert len(raised) == (asks != "nothing")


async def test_an_error_that_was_read_is_not_raised_again(tables: Tables) -> None:
    """A program may handle it and leave in peace."""
    async with reggen.run(reggen.load(tables(limits={"connect": 1.0}))) as running:
        with pytest.raises(reggen.NoUsableServer):
            await running.summary()


async def test_a_job_that_cannot_be_prepared_is_told_on_entering(tmp_path: Path, tables: Tables) -> None:
    """With all its problems; and what has not begun has no summary."""
    running = reggen.run(reggen.load(tables(workflow={"file": str(tmp_path / "nothere.json")})))
    with pytest.raises(reggen.JobError, match=r"nothere\.json"):
        await running.__aenter__()
    with pytest.raises(RuntimeError, match="async with"):
        await running.summary()
    with pytest.raises(RuntimeError, match="once"):
        await running.__aenter__()


async def test_a_listener_that_raises_ends_the_run_in_order(tables: Tables) -> None:
    """What is in flight is finished, and its error is the caller's."""

    def listen(event: reggen.Event) -> None:
        if isinstance(event, reggen.ImageSaved):
            raise LookupError(event.name)  # noqa: TRY004 - of no kind that reggen raises

    async with serve(Settings()) as sim:
        job = reggen.load(tables(sim.url, dataset={"count": 40}))
        running = reggen.run(job, on_event=listen)
        with pytest.raises(LookupError, match="reg_"):
            async with running:
                await running.summary()
        assert sim.world.remaining == 0
        assert len(made(job)) == sim.count("POST", "/prompt") < 40
        assert_sound(job, complete=False)


async def test_unread_events_are_bounded(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are dropped; the progress has them all."""
    monkeypatch.setattr("reggen.api.running._KEPT", 3)
    async with reggen.run(reggen.load(tables()), rehearse=True) as running:
        assert (await running.summary()).made == running.progress.made == 6
        assert len([event async for event in running]) == 3


async def test_a_note_of_the_program_stands_in_the_log(tables: Tables) -> None:
    """And among the events."""
    job = reggen.load(tables())
    async with reggen.run(job, rehearse=True) as running:
        running.note("the cat is on the keyboard")
        events = [event async for event in running]
    assert "the cat is on the keyboard" in [event.text for event in events if isinstance(event, Note)]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send to one process")
async def test_ctrl_c_ends_a_run_of_a_script_in_order(tables: Tables, tmp_path: Path) -> None:
    """Once: what is in flight is finished; then KeyboardInterrupt, as for any Python program."""
    async with serve(Settings(seconds=0.1)) as sim:
        job = reggen.load(tables(sim.url, dataset={"count": 100}))
        (tmp_path / "job.json").write_text(json.dumps(tables(sim.url, dataset={"count": 100})), encoding="utf-8")
        script = "import json, sys, reggen; reggen.run_sync(reggen.load(json.load(open(sys.argv[1]))))"
        command = [sys.executable, "-c", script, str(tmp_path / "job.json")]
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stderr=subprocess.PIPE)
        await eventually(lambda: len(made(job)) >= 2)
        process.send_signal(signal.SIGINT)
        _, errors = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == -signal.SIGINT
        assert errors.decode().rstrip().endswith("KeyboardInterrupt")
        assert sim.world.remaining == 0
        assert len(made(job)) == sim.count("POST", "/prompt")
        assert_sound(job, complete=False)
