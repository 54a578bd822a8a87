"""The end of a prompt: by hand-made history entries, and by recordings of real servers."""

from __future__ import annotations

from typing import Any

import pytest

from reggen.comfy.history import ImageRef, Outcome, Success, read_history
from reggen.comfy.listings import find_in_history
from reggen.errors import (
    ExecutionError,
    InvalidResponse,
    MissingOutput,
    PromptInterrupted,
    ServerDiskFull,
)
from tests.recordings import ID, SERVER, answers, every_recording


def outcomes(file: str) -> list[Outcome | None]:
    return [read_history(SERVER, prompt_id, body) for prompt_id, _, body in answers(file, "GET /history/")]


def images(outcome: Outcome | None) -> dict[str, list[str]]:
    assert isinstance(outcome, Success)
    return {node: [ref.filename for ref in refs] for node, refs in outcome.images.items()}


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
def test_an_answer_that_is_not_a_history_is_invalid(body: object):
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
def test_a_failed_node_is_named_and_lack_of_memory_recognised(kind: str, message: str, out_of_memory: bool):
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


def test_an_interruption_is_recognised_by_its_last_message():
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
    assert success.images_of(SERVER, "9", 2) == refs
    with pytest.raises(MissingOutput, match="made 2 of 3 images"):
        success.images_of(SERVER, "9", 3)
    with pytest.raises(MissingOutput, match="made 0 of 1 images"):
        success.images_of(SERVER, "11", 1)


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
def test_the_recorded_outcomes_of_old_servers_are_distinguished(file: str, kinds: list[str]):
    """Two successes, the second cached; an interruption, where the server could; a node that raised."""
    found = outcomes(file)
    assert [type(outcome).__name__ for outcome in found] == kinds
    assert isinstance(found[-1], ExecutionError)
    assert (found[-1].node, found[-1].kind, found[-1].message) == ("LabRaise (node 3)", "RuntimeError", "x")
