"""The public API as a program uses it, with the type that a checker must see at each place. Not run, only checked."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, assert_type

import reggen


def look(job_file: Path) -> None:
    job = reggen.load(job_file, count=20, output="elsewhere", servers=["http://127.0.0.1:8188"])
    assert_type(job, reggen.Job)
    assert_type(reggen.load({"dataset": {"root": "reg", "class": "cat", "count": "match"}}, count="match"), reggen.Job)
    plan = reggen.plan(job)
    assert_type(plan, reggen.JobPlan)
    assert_type(len(plan), int)
    assert_type(plan[0], reggen.Sample)
    assert_type([sample.seed for sample in plan], list[int])
    assert_type(plan.warnings, tuple[str, ...])
    assert_type(plan._repr_html_(), str)
    assert_type(reggen.status(job).classes[0], reggen.DatasetStatus)
    assert_type(reggen.check_sync(job).servers[0], reggen.ServerCheck)
    assert_type(reggen.doctor("reg", train="train", resolution=(512, 768), forbid=["spyke"]), reggen.Examination)
    assert_type(reggen.doctor(job, fix=True).report, reggen.DoctorReport)
    assert_type(reggen.reject(job, [17, "42-45"]).set_aside, tuple[str, ...])
    assert_type(reggen.reject_outdated(job).empty, tuple[str, ...])
    assert_type(reggen.purge(job), int)
    assert_type(reggen.recaption(job).written.count, int)
    assert_type(reggen.trainer_settings(job, "kohya-toml").text, str)
    assert_type(reggen.models("http://a:1"), reggen.ServerModels)
    assert_type(reggen.notify(job).taken, tuple[bool, ...])
    assert_type(reggen.schema(), dict[str, Any])
    assert_type(reggen.__version__, str)


def show(event: reggen.Event) -> str:
    match event:
        case reggen.ImageSaved():
            return assert_type(event.name, str)
        case reggen.ClassFinished():
            return str(assert_type(event.summary, reggen.Summary).missing)
        case reggen.Note() | reggen.Trouble():
            return event.text
    return ""


async def make(job: reggen.Job) -> reggen.JobSummary:
    assert_type(await reggen.check(job), reggen.CheckReport)
    async with reggen.run(job, wait=True, until=datetime.now() + timedelta(hours=8)) as running:  # noqa: DTZ005
        assert_type(running, reggen.JobRun)
        async for event in running:
            print(show(assert_type(event, reggen.Event)))
            if running.progress.given_up:
                running.stop()
        return assert_type(await running.summary(), reggen.JobSummary)


def make_at_once(job: reggen.Job) -> int:
    try:
        summary = reggen.run_sync(job, within=timedelta(hours=8), on_event=lambda event: print(show(event)))
    except reggen.JobError as error:
        return len(assert_type(error.problems, tuple[reggen.Problem, ...]))
    except (reggen.NoUsableServer, reggen.StorageError, reggen.DatasetLocked) as failed:
        return assert_type(failed, reggen.NoUsableServer | reggen.StorageError | reggen.DatasetLocked).exit_code
    assert_type(summary, reggen.JobSummary)
    return asyncio.run(make(job)).exit_code
