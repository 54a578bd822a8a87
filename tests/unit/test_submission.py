"""Submissions and the answers to them: by hand-made bodies, and by recordings of real servers."""

from __future__ import annotations

from typing import Any

import pytest

from reggen.comfy.submission import PostAccepted, read_partly_queued, read_submission, submission
from reggen.errors import (
    InvalidResponse,
    PromptRejected,
)
from tests.recordings import ID, SERVER, answers, every_recording


def test_a_submission_carries_what_the_server_needs():
    """Graph, client and prompt id; previews off; a note that finds the prompt again, a part of it in the PNG."""
    assert submission({"1": {}}, "client", ID, {"index": 3, "post": 2}) == {
        "prompt": {"1": {}},
        "client_id": "client",
        "prompt_id": ID,
        "extra_data": {
            "preview_method": "none",
            "reggen": {"id": ID, "index": 3, "post": 2},
            "extra_pnginfo": {"reggen": {"index": 3}},
        },
    }


def test_an_accepted_prompt_goes_by_the_id_of_the_answer():
    """Servers that choose their own ids are believed."""
    assert read_submission(SERVER, 200, {"prompt_id": "theirs", "number": 1, "node_errors": {}}) == PostAccepted(
        "theirs"
    )
    assert read_submission(SERVER, 200, {"prompt_id": "theirs", "node_errors": []}) == PostAccepted("theirs")


@pytest.mark.parametrize("body", [None, [], "ok", {}, {"prompt_id": None}, {"prompt_id": 5, "node_errors": {}}])
def test_an_answer_without_an_id_is_invalid(body: object):
    """A 200 that names no prompt, as a proxy may send, is no acceptance."""
    with pytest.raises(InvalidResponse, match="queueing a prompt at 127"):
        read_submission(SERVER, 200, body)


def test_an_unknown_checkpoint_is_refused_with_the_nearest_one():
    """A value that is not in the server's list is quoted with what was meant, or what there is."""
    error = {
        "type": "value_not_in_list",
        "message": "Value not in list",
        "details": "a long list",
        "extra_info": {
            "input_name": "ckpt_name",
            "received_value": "AnythingXL.safetensors",
            "input_config": [["sd15.safetensors", "AnythingXL_inkBase.safetensors"], {}],
        },
    }
    body = {
        "error": {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation"},
        "node_errors": {"4": {"class_type": "CheckpointLoaderSimple", "errors": [error]}},
    }
    assert read_submission(SERVER, 400, body) == _rejected(
        "CheckpointLoaderSimple (node 4): ckpt_name 'AnythingXL.safetensors' is not in the server's list; "
        "did you mean 'AnythingXL_inkBase.safetensors'?"
    )


def _rejected(*reasons: str) -> Any:
    """Equal to a PromptRejected with these reasons (exceptions have no equality of their own)."""

    class Same:
        def __eq__(self, other: object) -> bool:
            return isinstance(other, PromptRejected) and other.reasons == reasons

        __hash__ = None  # type: ignore[assignment]

        def __repr__(self) -> str:
            return f"PromptRejected({reasons!r})"

    return Same()


def test_every_node_error_is_quoted():
    """All nodes' errors come in one refusal, each with its node."""
    body = {
        "error": {"message": "Prompt outputs failed validation", "details": ""},
        "node_errors": {
            "3": {
                "class_type": "KSampler",
                "errors": [
                    {"type": "required_input_missing", "message": "Required input is missing", "details": "seed"},
                    {"type": "value_smaller_than_min", "message": "Value 0 smaller than min of 1", "details": "steps"},
                ],
            },
            "8": {"class_type": "VAEDecode", "errors": [{"type": "x", "message": "", "details": "broken"}]},
        },
    }
    assert read_submission(SERVER, 400, body) == _rejected(
        "KSampler (node 3): Required input is missing: seed",
        "KSampler (node 3): Value 0 smaller than min of 1: steps",
        "VAEDecode (node 8): broken",
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"error": {"message": "Prompt has no outputs", "details": ""}, "node_errors": []}, "Prompt has no outputs"),
        ({"error": {"message": "Bad id", "details": "use a UUID"}, "node_errors": {}}, "Bad id: use a UUID"),
        ({"error": "no prompt"}, "no prompt"),
        ({}, "it gave no reason"),
    ],
)
def test_a_refusal_of_the_whole_prompt_has_its_reason(body: dict[str, Any], reason: str):
    """Without node errors the general message is the reason; the 2024 servers' empty list counts as none."""
    assert read_submission(SERVER, 400, body) == _rejected(reason)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"error": {"type": "odd"}}, "it gave no reason"),
        ({"error": {"message": "Cannot run"}, "node_errors": {"3": {"errors": []}}}, "Cannot run"),
    ],
    ids=["an error without words", "a node without errors"],
)
def test_a_refusal_never_has_an_empty_reason(body: dict[str, Any], reason: str):
    """The general message is quoted if the node errors say nothing; if that is empty, so much is said."""
    refused = read_submission(SERVER, 400, body)
    assert isinstance(refused, PromptRejected)
    assert refused.reasons == (reason,)


@pytest.mark.parametrize(
    "errors",
    [None, [1], [{"type": "value_not_in_list", "extra_info": {"input_config": ["COMBO", {"options": None}]}}]],
    ids=["null", "a number for an error", "null options"],
)
def test_odd_node_errors_are_still_a_refusal(errors: object):
    """A fork that fills node_errors in its own way refuses the prompt all the same; nothing else is raised."""
    refused = read_submission(SERVER, 400, {"node_errors": {"3": {"class_type": "KSampler", "errors": errors}}})
    assert isinstance(refused, PromptRejected)


def test_a_prompt_that_lost_an_output_is_refused_and_can_be_taken_back():
    """200 with node errors means that an output was dropped in silence: a refusal, with the id to delete."""
    body = {
        "prompt_id": "queued",
        "number": 4,
        "node_errors": {"10": {"class_type": "SaveImage", "errors": [{"type": "x", "message": "m", "details": "d"}]}},
    }
    assert read_submission(SERVER, 200, body) == _rejected("SaveImage (node 10): m: d")
    assert read_partly_queued(body) == "queued"
    assert read_partly_queued({"error": "x"}) is None
    assert read_partly_queued([]) is None


@every_recording
def test_every_recorded_submission_is_understood(file: str):
    """A real server's 200 is an acceptance under its id, and its 400 a refusal with a reason in words."""
    for _, status, body in answers(file, "POST /prompt"):
        if status == 200 and not body["node_errors"]:
            assert read_submission(SERVER, status, body) == PostAccepted(body["prompt_id"])
        elif status in {200, 400}:
            refused = read_submission(SERVER, status, body)
            assert isinstance(refused, PromptRejected)
            assert all(reason.strip() for reason in refused.reasons)
            assert refused.reasons != ("it gave no reason",)


def test_the_recorded_refusals_say_what_is_wrong():
    """The sentences made of real refusals, one for each way in which a prompt can be wrong."""
    refusals = [
        refused
        for _, status, body in answers("05_invalid_prompts.jsonl", "POST /prompt")
        if status in {200, 400} and isinstance(refused := read_submission("it", status, body), PromptRejected)
    ]
    told = {str(refused) for refused in refusals}
    assert {
        "it refused the prompt: KSampler (node 3): Value 0 smaller than min of 1: steps",
        "it refused the prompt: KSampler (node 3): Required input is missing: seed",
        "it refused the prompt: KSampler (node 3): Value -1 smaller than min of 0: seed",
        "it refused the prompt: EmptyLatentImage (node 5): Value 100000 bigger than max of 16384: width",
        "it refused the prompt: KSampler (node 3): Dependency cycle detected: 3 (KSampler) -> 3 (KSampler)",
        "it refused the prompt: Prompt has no outputs",
    } <= told


def test_the_servers_of_2024_refuse_in_the_same_words():
    """Node errors that are a list, as old servers give them, are no obstacle."""
    for file in ("30_old_2024-07-01.jsonl", "30_old_2024-10.jsonl"):
        bodies = [(status, body) for _, status, body in answers(file, "POST /prompt") if status == 400]
        assert [str(read_submission("it", status, body)) for status, body in bodies] == [
            "it refused the prompt: Cannot execute because node Nope does not exist.: Node ID '#2'",
            (
                "it refused the prompt: CheckpointLoaderSimple (node 4): Value not in list: "
                "ckpt_name: 'zzz' not in ['AnythingXL_inkBase.safetensors']"
            ),
            "it refused the prompt: Prompt has no outputs",
        ]
