"""The stand-in against recordings of real servers: the same requests must get answers of the same form.

Recorded on four servers: July 2024, October 2024, 0.3.64 (October 2025), 0.33.0 (August 2026). Ids,
times, numbers and names differ; statuses, keys, types, error types, messages and the order of frames
must not. Prompts that use nodes made for the recording (their classes begin with "Lab") are left out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from reggen.sim import Settings, serve
from tests.conformance.harness import Comfy, Ear
from tests.recordings import RECORDINGS, records

VERSIONS = {"2024-07-01": "2024-07", "2024-10": "2024-10", "0.3.64": "0.3.64"}
SKIPPED = ("input_config", "traceback", "prompt", "extra_data", "linked_node", "current_inputs", "nodes")
"""Trimmed in the recordings, or compared elsewhere."""
IN_WORDS = ("type", "message", "details", "status_str", "completed", "class_type", "dependent_outputs")
FRAMES = (
    "01_txt2img_success",
    "03_identical_cached",
    "04_save_vs_preview",
    *(path.stem for path in sorted(RECORDINGS.glob("30_*"))),
)
ANSWERS = sorted(path.stem for path in RECORDINGS.glob("*.jsonl"))


@dataclass
class Exchange:
    """One recorded POST /prompt: what was sent, what came back, and the frames about it."""

    body: dict[str, Any]
    status: int
    answer: Any
    frames: list[dict[str, Any]] = field(default_factory=list)
    entry: Any = None

    @property
    def repeatable(self) -> bool:
        """True if the stand-in has the nodes that it takes."""
        return "Lab" not in json.dumps(self.body)

    @property
    def cached(self) -> list[str]:
        """The nodes that did not run."""
        found = [frame["data"]["nodes"] for frame in self.frames if frame["type"] == "execution_cached"]
        return sorted(found[0]) if found else []


def version_of(stem: str) -> str:
    """The version of the server that a recording was made with."""
    return next((version for mark, version in VERSIONS.items() if mark in stem), "0.33.0")


def exchanges(stem: str) -> list[Exchange]:
    """The prompts of a recording, in order."""
    found: list[Exchange] = []
    base: dict[str, Any] = {}
    sent: list[Any] = []
    socket = ""
    for line in records(f"{stem}.jsonl"):
        base = line.get("base_graph", base)
        if line.get("endpoint") == "WS open":
            socket = socket or line["sock"]
        elif line.get("endpoint") == "POST /prompt" and line["dir"] == "c>s":
            sent.append(line["body"])
        elif line.get("endpoint") == "POST /prompt" and isinstance(sent[0], str):
            sent.pop(0)
        elif line.get("endpoint") == "POST /prompt":
            found.append(Exchange(whole(sent.pop(0), base), line["status"], line["body"]))
        elif line.get("endpoint", "").startswith("GET /history/") and line["dir"] == "s>c":
            note_entry(found, line["body"])
        elif isinstance(line.get("frame"), dict) and line["sock"] == (socket or line["sock"]):
            note_frame(found, line["frame"])
    return found


def note_entry(found: list[Exchange], body: dict[str, Any]) -> None:
    for one in found:
        if isinstance(one.answer, dict) and one.answer.get("prompt_id") in body:
            one.entry = body[one.answer["prompt_id"]]


def note_frame(found: list[Exchange], frame: dict[str, Any]) -> None:
    for one in found:
        mine = isinstance(one.answer, dict) and one.answer.get("prompt_id")
        if mine and frame["data"].get("prompt_id") == mine:
            one.frames.append(frame)


def whole(body: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """A body whose graph was recorded as changes to another one."""
    changes = body.get("prompt")
    if not isinstance(changes, dict) or "<base graph with these nodes changed>" not in changes:
        return body
    graph = {**base, **changes["<base graph with these nodes changed>"]}
    return {**body, "prompt": {node: value for node, value in graph.items() if value != "<removed>"}}


def form(value: Any, key: str = "") -> Any:
    """The parts that must be equal: words where they are part of the protocol, otherwise types."""
    if key in SKIPPED:
        return "..."
    if isinstance(value, dict):
        return {name: form(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return [form(one, key) for one in value]
    if key in IN_WORDS or value is None:
        return value
    return "number" if isinstance(value, int | float) else type(value).__name__


def order(frames: list[dict[str, Any]]) -> list[str]:
    """The frames' types, without those whose number is a matter of speed."""
    return [one["type"] for one in frames if one["type"] not in ("progress", "progress_state")]


def announced(frames: list[dict[str, Any]]) -> list[str]:
    """The nodes that ran, in no order: which of two independent ones goes first is arbitrary."""
    return sorted(str(one["data"]["node"]) for one in frames if one["type"] == "executing")


@pytest.mark.parametrize("stem", ANSWERS)
async def test_answers_have_the_recorded_form(stem: str):
    """Every recorded prompt gets the recorded status, and a body of the recorded form."""
    async with (
        serve(Settings(version=version_of(stem), seconds=0.001)) as sim,
        aiohttp.ClientSession() as http,
    ):
        comfy = Comfy(sim.url, http)
        for one in exchanges(stem):
            if not one.repeatable:
                continue
            status, answer = await comfy.post("/prompt", one.body)
            assert (status, form(answer)) == (one.status, form(one.answer)), one.body
            if one.entry is not None:
                assert form(await comfy.entry(answer["prompt_id"])) == form(one.entry)


@pytest.mark.parametrize("stem", FRAMES)
async def test_frames_come_in_the_recorded_order(stem: str):
    """The frames about a prompt have the recorded types, order and keys, and name the same nodes."""
    settings = Settings(version=version_of(stem), seconds=0.05)
    async with serve(settings) as sim, aiohttp.ClientSession() as http:
        comfy = Comfy(sim.url, http)
        async with comfy.ear() as ear:
            compared = [await compare(comfy, ear, one, fresh) for one, fresh in remembered(stem)]
    assert any(compared)


def remembered(stem: str) -> list[tuple[Exchange, bool]]:
    """The repeatable prompts with a client; whether the server's memory of earlier ones is as recorded."""
    found, known = [], False
    for one in exchanges(stem):
        if one.repeatable and one.status == 200 and "client_id" in one.body:
            found.append((one, known or not one.cached))
        known = one.repeatable if one.status == 200 else known
    return found


async def compare(comfy: Comfy, ear: Ear, one: Exchange, fresh: bool) -> bool:
    """Repeat a prompt and compare its frames; whether there was anything to compare."""
    prompt_id = await comfy.submit(one.body["prompt"], client_id=ear.client_id)
    frames = await ear.until_done(prompt_id)
    if not fresh or not one.frames:
        return False
    assert order(frames) == order(one.frames)
    assert announced(frames) == announced(one.frames)
    kinds = {frame["type"]: form(frame["data"]) for frame in one.frames if frame["type"] != "progress_state"}
    for frame in frames:
        if frame["type"] in kinds and frame["type"] != "executing":
            assert set(frame["data"]) == set(kinds[frame["type"]])
    return True


async def test_bodies_that_are_no_prompt_get_the_recorded_status():
    """Raw bodies, unknown paths and wrong methods are refused as they were."""
    bodies = {
        "bad JSON": b"{not json",
        "empty body": b"",
        "JSON list": b"[1]",
        "no prompt key": b'{"client_id":"x"}',
        "invalid utf-8": b'{"prompt": "\xff\xfe"}',
    }
    note, compared = "", 0
    async with serve() as sim, aiohttp.ClientSession() as http:
        for line in records("05b_invalid_http.jsonl"):
            note = line.get("note", note)
            if line.get("endpoint") == "POST /prompt" and line["dir"] == "s>c" and note in bodies:
                status, answer = await Comfy(sim.url, http).post("/prompt", bodies[note])
                assert (status, form(answer)) == (line["status"], form(line["body"])), note
                compared += 1
    assert compared == len(bodies)
