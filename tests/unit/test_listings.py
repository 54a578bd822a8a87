"""The queue and the history of a server: by hand-made answers, and by recordings of real servers."""

from __future__ import annotations

from typing import Any

import pytest

from reggen.comfy.listings import Queue, find_in_history, read_queue
from reggen.errors import (
    InvalidResponse,
)
from tests.recordings import SERVER, answers, every_recording


def item(number: int, prompt_id: str, extra: object = None) -> list[Any]:
    return [number, prompt_id, {}, extra if extra is not None else {}, ["9"]]


def test_a_queue_has_what_runs_and_what_waits():
    """Ids in order; a prompt is found under its own id, or under ours where the server chose another."""
    queue = read_queue(
        SERVER,
        {
            "queue_running": [item(1, "theirs", {"reggen": {"id": "ours"}})],
            "queue_pending": [item(2, "b"), item(3, "c", {"client_id": "x"})],
        },
    )
    assert queue == Queue(("theirs",), ("b", "c"), {"ours": "theirs"})
    assert [queue.find(name) for name in ("theirs", "b", "ours", "nobody")] == ["theirs", "b", "theirs", None]


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"queue_running": []},
        {"queue_running": [], "queue_pending": None},
        {"queue_running": [5], "queue_pending": []},
        {"queue_running": [[]], "queue_pending": []},
        {"queue_running": [[1]], "queue_pending": []},
        {"queue_running": [{}], "queue_pending": []},
        {"queue_running": [None], "queue_pending": []},
    ],
    ids=repr,
)
def test_an_answer_that_is_no_queue_is_invalid(body: object):
    """A proxy's page instead of a queue must not look like an empty one."""
    with pytest.raises(InvalidResponse, match="the answer is not a queue"):
        read_queue(SERVER, body)


@pytest.mark.parametrize(
    "body",
    [
        {"queue_running": "", "queue_pending": ""},
        {"queue_running": {}, "queue_pending": {}},
        {"queue_running": ["abcdef"], "queue_pending": []},
        {"queue_running": [[0, 7, {}, {}, []]], "queue_pending": []},
    ],
    ids=repr,
)
def test_a_queue_of_the_wrong_types_is_invalid_too(body: object):
    """An empty string is not an empty queue, and a number no prompt id: a poll must not call a prompt lost by it."""
    with pytest.raises(InvalidResponse):
        read_queue(SERVER, body)


@every_recording
def test_every_recorded_queue_is_understood(file: str):
    """A real server's queue gives its ids in its order."""
    for _, _, body in answers(file, "GET /queue"):
        queue = read_queue(SERVER, body)
        assert queue.running == tuple(entry[1] for entry in body["queue_running"])
        assert queue.pending == tuple(entry[1] for entry in body["queue_pending"])


def test_our_prompt_is_found_in_the_history_under_the_servers_id():
    """The note that was posted with the prompt finds it, if the server chose its own id."""
    body = {"theirs": {"prompt": [1, "theirs", {}, {"reggen": {"id": "ours"}}, []]}, "odd": None, "other": {}}
    assert find_in_history(SERVER, body, "ours") == "theirs"
    assert find_in_history(SERVER, body, "theirs") == "theirs"
    assert find_in_history(SERVER, body, "nobody") is None
