"""What ComfyUI says, in reggen's own types: checked by hand-made messages and by recordings of real servers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reggen.comfy import protocol
from reggen.comfy.protocol import (
    Certainty,
    Ended,
    Event,
    ImageRef,
    NodeDone,
    Outcome,
    PostAccepted,
    Preview,
    Progressed,
    Queue,
    QueueDepth,
    Started,
    Success,
    Unknown,
    choices_of,
    dropped_prompt,
    find_in_history,
    read_frame,
    read_history,
    read_queue,
    read_submission,
    submission,
    suggestion,
)
from reggen.errors import (
    ExecutionError,
    InvalidResponse,
    MissingOutput,
    PromptInterrupted,
    PromptRejected,
    ServerDiskFull,
)

RECORDINGS = Path(__file__).parents[1] / "fixtures" / "recordings"
SERVER = "127.0.0.1:8188"
ID = "3ba22770-6407-42b2-aab0-ca2b3187dbec"


def frame(kind: Any, data: Any) -> str:
    return json.dumps({"type": kind, "data": data})


def records(file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (RECORDINGS / file).read_text(encoding="utf-8").splitlines()]


def answers(file: str, endpoint: str) -> Iterator[tuple[str, int, Any]]:
    """The rest of the address, status and body of every answer to ``endpoint`` in a recording."""
    for record in records(file):
        address = record.get("endpoint", "")
        if record["dir"] == "s>c" and address.startswith(endpoint) and "body" in record:
            yield address.removeprefix(endpoint), record["status"], record["body"]


def outcomes(file: str) -> list[Outcome | None]:
    return [read_history(SERVER, prompt_id, body) for prompt_id, _, body in answers(file, "GET /history/")]


def images(outcome: Outcome | None) -> dict[str, list[str]]:
    assert isinstance(outcome, Success)
    return {node: [ref.filename for ref in refs] for node, refs in outcome.images.items()}


every_recording = pytest.mark.parametrize("file", sorted(path.name for path in RECORDINGS.glob("*.jsonl")))


# ---- frames


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
        (frame("executing", {"node": None, "prompt_id": ID}), Ended(ID, Certainty.OVER)),
        (frame("execution_success", {"prompt_id": ID}), Ended(ID, Certainty.SUCCESS)),
        (frame("execution_error", {"prompt_id": ID, "exception_message": "boom"}), Ended(ID, Certainty.ERROR)),
        (frame("execution_interrupted", {"prompt_id": ID, "node_id": "3"}), Ended(ID, Certainty.INTERRUPTED)),
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
    """Binary frames carry pictures of somebody's prompt; they are never looked into."""
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
            assert event == Ended(data["prompt_id"], Certainty.OVER)
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
    told = [event for event in events if not isinstance(event, Unknown)]
    assert told[0] == Started(ID)
    assert told[-2:] == [Ended(ID, Certainty.SUCCESS), Ended(ID, Certainty.OVER)]
    assert {type(event) for event in told[1:-2]} <= {NodeDone, Progressed}
    assert any(isinstance(event, Progressed) and event.maximum == 20 for event in told)


# ---- submission


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
def test_an_answer_without_an_id_is_nonsense(body: object):
    """A 200 that names no prompt, as a proxy may send, is no acceptance."""
    with pytest.raises(InvalidResponse, match="queueing a prompt at 127"):
        read_submission(SERVER, 200, body)


def test_an_unknown_checkpoint_is_refused_with_the_nearest_one():
    """A value that is not in the server's list is told with what was meant, or what there is."""
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


def test_every_node_error_is_told():
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
    """When the node errors say nothing the general message is told, and when that is empty, so much is said."""
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
    assert dropped_prompt(body) == "queued"
    assert dropped_prompt({"error": "x"}) is None
    assert dropped_prompt([]) is None


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


# ---- choices and suggestions


@pytest.mark.parametrize(
    ("spec", "choices"),
    [
        ([["euler", "heun"], {"tooltip": "x"}], ["euler", "heun"]),
        ([["euler"]], ["euler"]),
        ((("a", "b"),), ["a", "b"]),
        (["COMBO", {"options": ["a", 2]}], ["a", "2"]),
        (["COMBO", {}], []),
        (["COMBO"], []),
        (["INT", {"default": 0}], []),
        ([], []),
        (None, []),
        ("<trimmed>", []),
    ],
)
def test_choices_are_read_from_old_and_new_specifications(spec: object, choices: list[str]):
    """An input's choices stand first in its specification, or under COMBO's options; otherwise there are none."""
    assert choices_of(spec) == choices


@pytest.mark.parametrize(
    ("got", "choices", "clause"),
    [
        ("euler_ancestrl", ["euler", "euler_ancestral"], "; did you mean 'euler_ancestral'?"),
        ("EULER", ["euler", "heun"], "; did you mean 'euler'?"),
        ("zzz", ["euler", "heun"], "; it has euler, heun"),
        ("zzz", [f"m{n}" for n in range(11)], "; it has m0, m1, m2, m3, m4, m5, m6, m7 and 3 more"),
        ("zzz", [], ""),
    ],
)
def test_a_suggestion_is_the_nearest_choice_or_what_there_is(got: str, choices: list[str], clause: str):
    """A near choice is named as the server spells it; without one the first few are listed."""
    assert suggestion(got, choices) == clause


# ---- the queue


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
def test_an_answer_that_is_no_queue_is_nonsense(body: object):
    """A proxy's page instead of a queue must not look like an empty one."""
    with pytest.raises(InvalidResponse, match="the answer is no queue"):
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
def test_a_queue_of_the_wrong_types_is_nonsense_too(body: object):
    """An empty string is not an empty queue, and a number no prompt id: a look must not call a prompt lost by it."""
    with pytest.raises(InvalidResponse):
        read_queue(SERVER, body)


@every_recording
def test_every_recorded_queue_is_understood(file: str):
    """A real server's queue gives its ids in its order."""
    for _, _, body in answers(file, "GET /queue"):
        queue = read_queue(SERVER, body)
        assert queue.running == tuple(entry[1] for entry in body["queue_running"])
        assert queue.pending == tuple(entry[1] for entry in body["queue_pending"])


# ---- the history


def entry(outputs: object = None, status: object = "unset", messages: object = None) -> dict[str, Any]:
    """A history entry; its status is a success unless it is given."""
    default = {"status_str": "success", "completed": True, "messages": messages if messages is not None else []}
    return {ID: {"prompt": [], "outputs": outputs or {}, "status": default if status == "unset" else status}}


def test_a_success_has_its_pictures_by_node_in_batch_order():
    """Each output node's pictures, with where the server keeps them; what is no picture is left out."""
    body = entry(
        {
            "9": {"images": [{"filename": "a.png", "subfolder": "s", "type": "output"}, {"filename": "b.png"}]},
            "10": {"images": [{"filename": "t.png", "subfolder": "", "type": "temp"}], "animated": [False]},
            "11": {"text": ["hello"]},
            "12": {"images": ["odd", None, {"filename": None}]},
            "13": None,
        },
        messages=[["execution_start", {"timestamp": 1000}], ["execution_success", {"timestamp": 2250}]],
    )
    assert read_history(SERVER, ID, body) == Success(
        {
            "9": (ImageRef("a.png", "s", "output"), ImageRef("b.png", "", "output")),
            "10": (ImageRef("t.png", "", "temp"),),
            "12": (),
        },
        1.25,
    )


@pytest.mark.parametrize("body", [{}, {"another": {}}, {ID: None}], ids=repr)
def test_a_prompt_without_an_entry_has_not_ended(body: object):
    """Unknown, waiting and running prompts have no history."""
    assert read_history(SERVER, ID, body) is None


@pytest.mark.parametrize("body", [None, [], "<html>"], ids=repr)
def test_an_answer_that_is_no_history_is_nonsense(body: object):
    """A proxy's page says nothing about a prompt."""
    with pytest.raises(InvalidResponse):
        read_history(SERVER, ID, body)
    with pytest.raises(InvalidResponse):
        find_in_history(SERVER, body, ID)


@pytest.mark.parametrize("status", [None, {}, "odd", {"messages": None}, {"status_str": "success", "messages": "x"}])
def test_an_entry_of_unknown_form_with_pictures_is_a_success(status: object):
    """Old and forked servers may give no status: what has pictures went well."""
    outcome = read_history(SERVER, ID, entry({"9": {"images": [{"filename": "a.png"}]}}, status))
    assert images(outcome) == {"9": ["a.png"]}


def failure(data: dict[str, Any]) -> Outcome | None:
    status = {"status_str": "error", "completed": False, "messages": [["execution_error", data]]}
    return read_history(SERVER, ID, entry(status=status))


@pytest.mark.parametrize(
    ("kind", "message", "out_of_memory"),
    [
        ("RuntimeError", "boom", False),
        ("torch.OutOfMemoryError", "no words", True),
        ("torch.cuda.OutOfMemoryError", "Allocation on device", True),
        ("RuntimeError", "CUDA error: out of memory (simulated)", True),
        ("RuntimeError", "MPS backend out of memory", True),
        ("RuntimeError", "DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes", True),
        ("RuntimeError", "not enough memory: you tried to allocate 4 bytes", True),
        ("ValueError", "memory of a shape", False),
    ],
)
def test_a_failed_node_is_named_and_memory_told_apart(kind: str, message: str, out_of_memory: bool):
    """A failure names its node, kind and message, and whether it was for want of memory."""
    failed = failure({"node_id": "3", "node_type": "KSampler", "exception_type": kind, "exception_message": message})
    assert isinstance(failed, ExecutionError)
    assert failed.args == (SERVER, "KSampler (node 3)", kind, message, out_of_memory)


def test_a_full_disk_over_there_is_the_servers_fault():
    """No graph is to blame, and trying again at once cannot help."""
    message = "[Errno 28] No space left on device: '/out/reg.png'"
    assert isinstance(failure({"exception_type": "OSError", "exception_message": message}), ServerDiskFull)


def test_the_tips_after_a_message_are_left_out():
    """ComfyUI appends lines of advice to its messages: only the first line is told, and not all of a long one."""
    failed = failure({"exception_message": "\nboom\n\nTIPS: allocate more memory\n", "exception_type": "E"})
    assert isinstance(failed, ExecutionError)
    assert (failed.message, failed.out_of_memory) == ("boom", False)
    long = failure({"exception_message": "x" * 10_000})
    assert isinstance(long, ExecutionError)
    assert len(long.message) == 500


def test_a_failure_without_details_is_still_a_failure():
    """An entry that says error and nothing else becomes a sentence all the same."""
    failed = read_history(SERVER, ID, entry(status={"status_str": "error"}))
    assert str(failed) == "a node (node ?) raised an error on 127.0.0.1:8188: no message"


def test_an_interruption_is_told_from_a_failure_by_its_last_message():
    """An interrupted prompt says "error" as its status; the message tells it apart."""
    messages = [["execution_start", {}], ["execution_interrupted", {"node_id": "3"}]]
    status = {"status_str": "error", "completed": False, "messages": messages}
    assert isinstance(read_history(SERVER, ID, entry(status=status)), PromptInterrupted)


def test_a_clock_that_went_backwards_gives_no_negative_time():
    """The server's clock may be set back while it paints."""
    messages = [["execution_start", {"timestamp": 2000}], ["execution_success", {"timestamp": 1000}]]
    outcome = read_history(SERVER, ID, entry(messages=messages))
    assert outcome == Success({}, 0.0)


@pytest.mark.parametrize("messages", [[], [["execution_start", {}]], [["execution_start", {"timestamp": "noon"}]]])
def test_without_timestamps_nobody_knows_how_long_it_took(messages: list[Any]):
    """Servers of 2024 give no times: the busy seconds are unknown."""
    assert read_history(SERVER, ID, entry(messages=[*messages, ["execution_success", {}]])) == Success({}, None)


def test_pictures_are_taken_from_the_output_node_only():
    """A success that has fewer pictures than were asked for is a failure of its own kind."""
    refs = (ImageRef("1", "", "output"), ImageRef("2", "", "output"))
    success = Success({"9": refs, "10": (ImageRef("t", "", "temp"),)}, None)
    assert success.take(SERVER, "9", 2) == refs
    with pytest.raises(MissingOutput, match="made 2 of 3 images"):
        success.take(SERVER, "9", 3)
    with pytest.raises(MissingOutput, match="made 0 of 1 images"):
        success.take(SERVER, "11", 1)


def test_our_prompt_is_found_in_the_history_under_the_servers_id():
    """Where the server chose its own id, the note that travelled with the prompt finds it."""
    body = {"theirs": {"prompt": [1, "theirs", {}, {"reggen": {"id": "ours"}}, []]}, "odd": None, "other": {}}
    assert find_in_history(SERVER, body, "ours") == "theirs"
    assert find_in_history(SERVER, body, "theirs") == "theirs"
    assert find_in_history(SERVER, body, "nobody") is None


@every_recording
def test_every_recorded_history_is_understood(file: str):
    """A real server's answer about a prompt is its outcome, with every picture it lists, or that it has not ended."""
    for prompt_id, status, body in answers(file, "GET /history/"):
        outcome = read_history(SERVER, prompt_id, body)
        if status != 200 or prompt_id not in body:
            assert outcome is None
            continue
        said = body[prompt_id]
        last = said["status"]["messages"][-1][0] if said["status"]["messages"] else None
        if last == "execution_interrupted":
            assert isinstance(outcome, PromptInterrupted)
        elif said["status"]["status_str"] == "error":
            assert isinstance(outcome, ExecutionError)
            assert outcome.kind == dict(said["status"]["messages"])["execution_error"]["exception_type"]
        else:
            listed = {
                node: [image["filename"] for image in output["images"]] for node, output in said["outputs"].items()
            }
            assert images(outcome) == listed


@pytest.mark.parametrize(
    ("file", "pictures"),
    [
        ("01_txt2img_success.jsonl", [{"9": ["reg_00042_.png"]}, {"9": ["reg_00043_.png"]}]),
        ("02_batch4.jsonl", [{"9": [f"reg_000{number}_.png" for number in range(44, 48)]}]),
        (
            "04_save_vs_preview.jsonl",
            [
                {"10": ["ComfyUI_temp_cscxp_00001_.png"], "9": ["reg_00049_.png"]},
                {"10": ["ComfyUI_temp_cscxp_00002_.png"], "9": ["reg_00050_.png"]},
            ],
        ),
        ("22_no_client_id_cached_v0.33.0.jsonl", [{"2": ["e_00007_.png"]}] * 2),
    ],
)
def test_the_recorded_successes_have_these_pictures(file: str, pictures: list[dict[str, list[str]]]):
    """Singles, a batch in order, saved and previewed, new and cached."""
    assert [images(outcome) for outcome in outcomes(file)] == pictures


def test_the_recorded_times_are_the_servers_own():
    """Busy seconds are the difference of two readings of the server's clock."""
    seconds = [one.seconds for one in outcomes("01_txt2img_success.jsonl") if isinstance(one, Success)]
    assert seconds == [1.042, 0.711]


@pytest.mark.parametrize(
    ("file", "kinds"),
    [
        ("30_old_2024-07-01.jsonl", ["Success", "Success", "PromptInterrupted", "ExecutionError"]),
        ("30_old_2024-10.jsonl", ["Success", "Success", "PromptInterrupted", "ExecutionError"]),
        ("30_old_2025-10_v0.3.64.jsonl", ["Success", "Success", "Success", "ExecutionError"]),
    ],
)
def test_the_recorded_outcomes_of_old_servers_are_told_apart(file: str, kinds: list[str]):
    """Two successes, the second cached; an interruption, where the server could; a node that raised."""
    found = outcomes(file)
    assert [type(outcome).__name__ for outcome in found] == kinds
    assert isinstance(found[-1], ExecutionError)
    assert (found[-1].node, found[-1].kind, found[-1].message) == ("LabRaise (node 3)", "RuntimeError", "x")


def test_the_largest_frame_is_known_by_its_beginning():
    """progress_state is recognised without reading it; its beginning is what real servers send."""
    bulky = [record["frame"] for record in records("01_txt2img_success.jsonl") if "frame" in record]
    sent = [json.dumps(one) for one in bulky if one["type"] == "progress_state"]
    assert sent
    assert all(text.startswith(protocol._BULKY) for text in sent)


@pytest.mark.parametrize(
    ("devices", "left"),
    [
        ([{"vram_total": 100, "vram_free": 25}], 0.25),
        ([{"vram_total": 100, "vram_free": 50}, {"vram_total": 80, "vram_free": 0}], 0.0),
        ([{"vram_total": 0, "vram_free": 0}], None),
        ([{"vram_total": "24 GB", "vram_free": 1}, 3, {}], None),
        ([], None),
        (None, None),
    ],
)
def test_the_memory_of_the_fullest_device_counts(devices: Any, left: float | None):
    """A full one has nothing left; what a server does not say, or says oddly, is not known."""
    assert protocol.memory_left({"devices": devices}) == left
