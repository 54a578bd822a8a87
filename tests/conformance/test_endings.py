"""Prompts that end badly, or not at all: interrupts, failures, deletions, duplicates."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from tests.conformance.harness import Comfy, Ear, Graph, names, plain, since, some_color, some_prefix, txt2img


def long(steps: int = 200) -> Graph:
    """A prompt that is still running when one looks."""
    return txt2img(some_color(), steps=steps, size=256)


async def running(comfy: Comfy, ear: Ear) -> str:
    """A long prompt that is sampling now; its id."""
    prompt_id = await comfy.submit(long(), client_id=ear.client_id)
    await ear.until(lambda frame: frame["type"] == "progress" and frame["data"]["prompt_id"] == prompt_id)
    return prompt_id


def last_message(entry: Any) -> str:
    """The event that ended a prompt."""
    return str(entry["status"]["messages"][-1][0])


async def test_interrupt_by_id_stops_the_running_prompt(comfy: Comfy):
    """An interrupted prompt counts as an error; only its last message tells it from a failure."""
    async with comfy.ear() as ear:
        prompt_id = await running(comfy, ear)
        assert (await comfy.post("/interrupt", {"prompt_id": prompt_id}))[0] == 200
        frames = await ear.until_done(prompt_id)
    entry = await comfy.entry(prompt_id)
    assert names(frames)[-2:] == ["execution_interrupted", "executing:None"]
    assert entry["status"]["status_str"] == "error"
    assert entry["status"]["completed"] is False
    assert last_message(entry) == "execution_interrupted"
    assert entry["outputs"] == {}
    data = next(frame["data"] for frame in frames if frame["type"] == "execution_interrupted")
    assert {"prompt_id", "node_id", "node_type", "executed", "timestamp"} == set(data)
    assert (data["node_id"], data["node_type"]) == ("3", "KSampler")


async def test_interrupt_aimed_elsewhere_changes_nothing(comfy: Comfy):
    """An interrupt for a waiting or an unknown prompt leaves the running one alone."""
    async with comfy.ear() as ear:
        first = await comfy.submit(txt2img(some_color(), steps=30), client_id=ear.client_id)
        second = await comfy.submit(plain(some_color()), client_id=ear.client_id)
        await ear.until(lambda frame: frame["type"] == "progress")
        for aim in (second, str(uuid.uuid4())):
            assert (await comfy.post("/interrupt", {"prompt_id": aim}))[0] == 200
        await ear.until_done(second)
    assert last_message(await comfy.entry(first)) == "execution_success"
    assert last_message(await comfy.entry(second)) == "execution_success"


async def test_idle_interrupt_does_not_reach_the_next_prompt(comfy: Comfy):
    """An interrupt while nothing runs is forgotten."""
    async with comfy.ear() as ear:
        assert (await comfy.post("/interrupt", b""))[0] == 200
        prompt_id = await comfy.submit(plain(some_color()), client_id=ear.client_id)
        await ear.until_done(prompt_id)
    assert last_message(await comfy.entry(prompt_id)) == "execution_success"


async def test_interrupt_with_a_list_is_a_500(comfy: Comfy):
    """A body that is no object breaks the handler."""
    assert (await comfy.post("/interrupt", []))[0] == 500


async def test_deleted_prompt_leaves_no_trace(comfy: Comfy):
    """A pending prompt that is deleted never runs, and nothing remembers it."""
    async with comfy.ear() as ear:
        first = await running(comfy, ear)
        second = await comfy.submit(plain(some_color()), client_id=ear.client_id)
        assert await comfy.post("/queue", {"delete": [second]}) == (200, "")
        await comfy.post("/interrupt", {"prompt_id": first})
        await ear.until_done(first)
    assert await comfy.get(f"/history/{second}") == {}
    assert await comfy.status_of(f"/api/jobs/{second}") == 404
    assert ear.about(second) == []


async def test_delete_of_the_running_prompt_does_nothing(comfy: Comfy):
    """Deleting takes from the queue only; what runs goes on, and the answer is the same 200."""
    async with comfy.ear() as ear:
        prompt_id = await running(comfy, ear)
        assert await comfy.post("/queue", {"delete": [prompt_id, "unknown"]}) == (200, "")
        queue = await comfy.get("/queue")
        await comfy.post("/interrupt", {"prompt_id": prompt_id})
        await ear.until_done(prompt_id)
    assert [item[1] for item in queue["queue_running"]] == [prompt_id]


async def test_queue_lists_numbers_ids_graphs_and_outputs(comfy: Comfy):
    """A queue item is number, id, graph, extra data and output nodes."""
    async with comfy.ear() as ear:
        first = await running(comfy, ear)
        extra = {"note": "kept"}
        second = await comfy.submit(plain(7), client_id=ear.client_id, extra_data=extra)
        queue = await comfy.get("/queue")
        remaining = await comfy.get("/prompt")
        await comfy.post("/queue", {"delete": [second]})
        await comfy.post("/interrupt", {"prompt_id": first})
        await ear.until_done(first)
    number, prompt_id, graph, extra_data, outputs = next(item for item in queue["queue_pending"] if item[1] == second)
    assert isinstance(number, int)
    assert graph["1"]["inputs"]["color"] == 7
    assert (prompt_id, outputs) == (second, ["2"])
    assert extra_data["note"] == "kept"
    assert extra_data["client_id"] == ear.client_id
    assert isinstance(extra_data.get("create_time"), int) or not comfy.has("0.3.69")
    assert remaining["exec_info"]["queue_remaining"] >= 2


async def test_failure_is_told_in_full(comfy: Comfy):
    """A node that raises ends the prompt with execution_error; history repeats the frame."""
    graph = plain(some_color(), prefix="../outside")
    async with comfy.ear() as ear:
        prompt_id = await comfy.submit(graph, client_id=ear.client_id)
        frames = await ear.until_done(prompt_id)
    entry = await comfy.entry(prompt_id)
    assert names(frames) == [
        "execution_start",
        "execution_cached",
        "executing:1",
        "executing:2",
        "execution_error",
        "executing:None",
    ]
    error = next(frame["data"] for frame in frames if frame["type"] == "execution_error")
    assert set(error) == {
        "prompt_id",
        "node_id",
        "node_type",
        "executed",
        "exception_message",
        "exception_type",
        "traceback",
        "current_inputs",
        "current_outputs",
        "timestamp",
    }
    assert (error["node_id"], error["node_type"], error["executed"]) == ("2", "SaveImage", ["1"])
    assert "outside the output folder" in error["exception_message"]
    assert entry["status"]["status_str"] == "error"
    assert entry["status"]["messages"][-1] == ["execution_error", error]


async def test_impossible_size_is_out_of_memory_on_a_cpu(comfy: Comfy):
    """A lack of memory is named in words, as a RuntimeError."""
    graph = plain(1, size=16384, batch=4096)
    async with comfy.ear() as ear:
        prompt_id = await comfy.submit(graph, client_id=ear.client_id)
        await ear.until_done(prompt_id)
    _, error = (await comfy.entry(prompt_id))["status"]["messages"][-1]
    assert error["exception_type"] == "RuntimeError"
    assert "allocate memory" in error["exception_message"]


async def test_failed_prompt_keeps_what_was_saved_before(comfy: Comfy):
    """A second output that fails does not take away the files of the first."""
    graph = plain(some_color(), prefix=some_prefix())
    graph["9"] = {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "../x"}}
    graph["8"] = {
        "class_type": "EmptyImage",
        "inputs": {"width": 16384, "height": 16384, "batch_size": 4096, "color": 3},
    }
    async with comfy.ear() as ear:
        prompt_id = await comfy.submit(graph, client_id=ear.client_id)
        frames = await ear.until_done(prompt_id)
    entry = await comfy.entry(prompt_id)
    assert entry["status"]["status_str"] == "error"
    # Which output goes first is the server's choice: what it announced, history must hold.
    announced = [frame["data"]["node"] for frame in frames if frame["type"] == "executed"]
    assert list(entry["outputs"]) == announced


async def test_same_id_twice_runs_twice(comfy: Comfy):
    """Ids are not deduplicated: both run, and the later history entry replaces the earlier."""
    prompt_id, prefix = str(uuid.uuid4()), some_prefix()
    async with comfy.ear() as ear:
        for _ in range(2):
            await comfy.submit(plain(some_color(), prefix=prefix), client_id=ear.client_id, prompt_id=prompt_id)
        async with asyncio.timeout(20):
            await ear.until(lambda _: names(ear.frames).count("executing:None") == 2)
    assert names(ear.frames).count("execution_start") == 2
    assert [one["filename"] for one in await comfy.images(prompt_id, "2")] == ["p_00002_.png"]


@since("0.26", "cancel routes")
async def test_cancel_covers_running_and_pending_jobs(comfy: Comfy):
    """The cancel route interrupts what runs, dequeues what waits, and is content with the rest."""
    async with comfy.ear() as ear:
        first = await running(comfy, ear)
        second = await comfy.submit(plain(some_color()), client_id=ear.client_id)
        assert await comfy.post(f"/api/jobs/{second}/cancel", b"") == (200, {"cancelled": True})
        assert await comfy.post(f"/api/jobs/{first}/cancel", b"") == (200, {"cancelled": True})
        await ear.until_done(first)
    assert await comfy.post(f"/api/jobs/{first}/cancel", b"") == (200, {"cancelled": False})
    assert (await comfy.get(f"/api/jobs/{first}"))["status"] == "cancelled"
    status, body = await comfy.post("/api/jobs/cancel", {"job_ids": ["x"]})
    assert (status, body["invalid_ids"]) == (400, ["x"])
    assert await comfy.post("/api/jobs/cancel", {"job_ids": [second]}) == (200, {"cancelled": False})


async def test_free_memory_empties_the_cache(comfy: Comfy):
    """After /free with free_memory the same graph really runs again."""
    graph = plain(some_color(), prefix=some_prefix())
    async with comfy.ear() as ear:
        first = await comfy.submit(graph, client_id=ear.client_id)
        await ear.until_done(first)
        assert (await comfy.post("/free", {"unload_models": True, "free_memory": True}))[0] == 200
        async with asyncio.timeout(20):
            # The worker frees between two prompts, a moment after the answer.
            while True:
                again = await comfy.submit(graph, client_id=ear.client_id)
                frames = await ear.until_done(again)
                if not frames[1]["data"]["nodes"]:
                    break
    assert [one["filename"] for one in await comfy.images(again, "2")] == ["p_00002_.png"]


async def test_free_without_a_body_is_a_500(comfy: Comfy):
    """/free wants JSON, be it empty."""
    assert (await comfy.post("/free", b""))[0] == 500
    assert (await comfy.post("/free", {}))[0] == 200
