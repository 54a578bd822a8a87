"""WebSocket frames become events: by hand-made frames, and by recordings of real servers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reggen.comfy.frames import (
    _PROGRESS_STATE,
    Ended,
    EndSignal,
    Event,
    NodeDone,
    Preview,
    Progressed,
    QueueDepth,
    Started,
    Unknown,
    read_frame,
)
from tests.recordings import ID, every_recording, records


def frame(kind: Any, data: Any) -> str:
    return json.dumps({"type": kind, "data": data})


@pytest.mark.parametrize(
    ("text", "event"),
    [
        (frame("status", {"status": {"exec_info": {"queue_remaining": 3}}, "sid": "x"}), QueueDepth(3)),
        (frame("execution_start", {"prompt_id": ID, "timestamp": 1}), Started(ID)),
        (frame("execution_cached", {"nodes": ["4"], "prompt_id": ID}), NodeDone(ID)),
        (frame("executing", {"node": "3", "display_node": "3", "prompt_id": ID}), NodeDone(ID)),
        (frame("executing", {"node": "", "prompt_id": ID}), NodeDone(ID)),
        (frame("executed", {"node": "9", "output": {"images": []}, "prompt_id": ID}), NodeDone(ID)),
        (frame("progress", {"value": 4, "max": 20, "prompt_id": ID, "node": "3"}), Progressed(ID, 4.0, 20.0)),
        (frame("executing", {"node": None, "prompt_id": ID}), Ended(ID, EndSignal.OVER)),
        (frame("execution_success", {"prompt_id": ID}), Ended(ID, EndSignal.SUCCESS)),
        (frame("execution_error", {"prompt_id": ID, "exception_message": "boom"}), Ended(ID, EndSignal.ERROR)),
        (frame("execution_interrupted", {"prompt_id": ID, "node_id": "3"}), Ended(ID, EndSignal.INTERRUPTED)),
        (frame("progress_state", {"prompt_id": ID, "nodes": {}}), Unknown("progress_state")),
        (frame("feature_flags", {"supports_preview_metadata": True}), Unknown("feature_flags")),
        (frame("somebody.elses.plugin", {"prompt_id": ID}), Unknown("somebody.elses.plugin")),
        (frame("crystools.monitor", [1, 2]), Unknown("crystools.monitor")),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else None,
)
def test_a_frame_becomes_an_event(text: str, event: Event):
    """Each kind of frame says one thing; a kind that means nothing here is unknown."""
    assert read_frame(text) == event


@pytest.mark.parametrize(
    "text",
    [
        frame("executing", {"node": "3"}),
        frame("executing", {"node": None}),
        frame("progress", {"value": 1, "max": 2}),
        frame("execution_success", {"prompt_id": None}),
        frame("executed", {"prompt_id": 7}),
    ],
)
def test_a_frame_that_names_no_prompt_says_nothing(text: str):
    """After a reconnect, and for other clients' prompts, frames may lack the prompt's id: they end nothing."""
    assert isinstance(read_frame(text), Unknown)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not JSON",
        "null",
        "[]",
        "7",
        '"text"',
        "{}",
        '{"type": "status"}',
        '{"data": {}}',
        frame("status", {}),
        frame("status", {"sid": "x"}),
        frame("status", {"status": {"exec_info": {"queue_remaining": "many"}}}),
        frame("status", {"status": {"exec_info": {"queue_remaining": float("nan")}}}),
        frame("progress", {"prompt_id": ID, "value": None, "max": 1}),
        frame(["executing"], {"prompt_id": ID}),
        "[" * 100_000,
    ],
    ids=lambda text: text[:24],
)
def test_an_odd_frame_is_unknown_and_never_an_error(text: str):
    """Whatever a server or a proxy sends, the receive loop goes on."""
    assert read_frame(text) == Unknown("unreadable")


@pytest.mark.parametrize(
    "text",
    [
        frame("status", {"status": {"exec_info": {"queue_remaining": float("inf")}}}),
        frame("progress", {"prompt_id": ID, "value": 10**400, "max": 1}),
    ],
    ids=["an infinite queue", "a number beyond every float"],
)
def test_a_number_too_large_for_its_type_is_unknown_too(text: str):
    """Infinity and giant integers are JSON to Python; they must not end the receive loop."""
    assert read_frame(text) == Unknown("unreadable")


@pytest.mark.parametrize("kind", [None, 5, {"a": 1}], ids=repr)
def test_an_unknown_kind_is_always_text(kind: object):
    """Whoever logs an unknown frame, or counts it by kind, finds a string."""
    event = read_frame(frame(kind, {}))
    assert isinstance(event, Unknown)
    assert isinstance(event.kind, str)


@pytest.mark.parametrize("head", [b"", b"\0\0\0\1\0\0\0\1\xff\xd8", b"\0\0\0\4", b"\xff" * 64])
def test_a_binary_frame_is_a_preview(head: bytes):
    """Binary frames carry pictures of somebody's prompt; their bytes are never read."""
    assert read_frame(head) == Preview()


@every_recording
def test_every_recorded_frame_is_understood(file: str):
    """Real servers of four ages send no frame that is unreadable, and the events carry what the frames say."""
    meaning = {
        "execution_start": Started,
        "execution_cached": NodeDone,
        "executed": NodeDone,
        "executing": NodeDone,
        "progress": Progressed,
        "execution_success": Ended,
        "execution_error": Ended,
        "execution_interrupted": Ended,
    }
    for record in records(file):
        sent = record.get("frame")
        if record["dir"] != "s>c" or not isinstance(sent, dict):
            continue
        event, data = read_frame(json.dumps(sent)), sent["data"]
        if sent["type"] == "status":
            assert event == QueueDepth(data["status"]["exec_info"]["queue_remaining"])
        elif sent["type"] not in meaning or "prompt_id" not in data:
            assert event == Unknown(sent["type"])
        elif sent["type"] == "executing" and data["node"] is None:
            assert event == Ended(data["prompt_id"], EndSignal.OVER)
        else:
            assert isinstance(event, meaning[sent["type"]])
            assert getattr(event, "prompt_id", None) == data["prompt_id"]


def test_a_recorded_prompt_starts_runs_and_ends():
    """One real prompt, seen through its events: started, nodes, success, over."""
    events = [
        read_frame(json.dumps(record["frame"]))
        for record in records("01_txt2img_success.jsonl")
        if "frame" in record and record["frame"]["data"].get("prompt_id") == ID
    ]
    known = [event for event in events if not isinstance(event, Unknown)]
    assert known[0] == Started(ID)
    assert known[-2:] == [Ended(ID, EndSignal.SUCCESS), Ended(ID, EndSignal.OVER)]
    assert {type(event) for event in known[1:-2]} <= {NodeDone, Progressed}
    assert any(isinstance(event, Progressed) and event.maximum == 20 for event in known)


def test_the_largest_frame_is_known_by_its_beginning():
    """progress_state is recognised without reading it; its beginning is what real servers send."""
    bulky = [record["frame"] for record in records("01_txt2img_success.jsonl") if "frame" in record]
    sent = [json.dumps(one) for one in bulky if one["type"] == "progress_state"]
    assert sent
    assert all(text.startswith(_PROGRESS_STATE) for text in sent)
