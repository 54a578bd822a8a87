"""For every message: frames never raise, answers raise InvalidResponse or nothing."""

import dataclasses
import json
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reggen.comfy.describe import summary
from reggen.comfy.frames import Ended, NodeDone, Preview, Progressed, QueueDepth, Started, Unknown, read_frame
from reggen.comfy.history import Success, is_unknown_job, read_history, read_job
from reggen.comfy.listings import Queue, find_in_history, read_orphans, read_queue, slim_entry, slim_item
from reggen.comfy.node_classes import choices_of, read_node_class, suggestion
from reggen.comfy.sanitize import NAME, TEXT, Unacceptable, parse_json
from reggen.comfy.server_info import read_free_memory, read_queue_depth, read_version
from reggen.comfy.submission import PostAccepted, read_partly_queued, read_submission
from reggen.errors import InvalidResponse, PromptRejected, SampleError

EVENTS = (Started, Progressed, NodeDone, Ended, QueueDepth, Preview, Unknown)

KINDS = st.sampled_from(
    (
        "status",
        "progress",
        "progress_state",
        "executing",
        "executed",
        "execution_start",
        "execution_cached",
        "execution_success",
        "execution_error",
        "execution_interrupted",
    )
)
KEYS = st.sampled_from(
    [
        "status",
        "exec_info",
        "queue_remaining",
        "prompt_id",
        "node",
        "value",
        "max",
        "images",
        "filename",
        "outputs",
        "messages",
        "status_str",
        "queue_running",
        "queue_pending",
        "node_errors",
        "errors",
        "error",
        "type",
        "message",
        "details",
        "extra_info",
        "input_name",
        "input_config",
        "received_value",
        "class_type",
        "reggen",
        "id",
        "prompt",
        "timestamp",
        "exception_message",
        "exception_type",
        "options",
        "p",
    ]
)
# halves of characters, what a terminal obeys, reversed writing, and texts without measure
odd = st.sampled_from(("\ud800", "\x1b[2J", "\x00", "\u202egnp", "a\nb", "x" * 5_000, "\x9b" + "y" * 3_000))
texts = st.text(st.characters(exclude_categories=()), max_size=8) | odd
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.just(10**400) | texts | KEYS
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS | st.text(max_size=4), inner, max_size=5),
    max_leaves=12,
)
# what may stand where a number should, the awkward ones first
numbers = st.sampled_from((float("inf"), float("-inf"), float("nan"), 10**400, -1, None, "5")) | values


def shaped(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A dictionary that may have each of these keys."""
    return st.fixed_dictionaries({}, optional=keys)


near_frames = st.fixed_dictionaries(
    {
        "type": KINDS,
        "data": st.fixed_dictionaries(
            {
                "prompt_id": st.just("p"),
                "value": numbers,
                "max": numbers,
                "status": st.fixed_dictionaries({"exec_info": st.fixed_dictionaries({"queue_remaining": numbers})}),
            },
            optional={"node": values},
        ),
    }
)
frames = st.fixed_dictionaries(
    {
        "type": KINDS | values,
        "data": values
        | shaped(
            prompt_id=st.just("p") | values,
            node=values,
            value=numbers,
            max=numbers,
            status=values | shaped(exec_info=values | shaped(queue_remaining=numbers)),
        ),
    }
)
node_error = values | shaped(
    type=st.just("value_not_in_list") | values,
    message=values,
    details=values,
    extra_info=values
    | shaped(
        input_name=values,
        received_value=values,
        input_config=values | st.tuples(st.just("COMBO"), values | shaped(options=values)),
    ),
)
submissions = shaped(
    prompt_id=values,
    error=values | shaped(message=values, details=values),
    node_errors=values
    | st.dictionaries(
        st.text(max_size=3),
        values | shaped(class_type=values, errors=values | st.lists(node_error, max_size=3)),
        max_size=3,
    ),
)
queue_items = values | st.lists(values, min_size=1, max_size=5)
queues = shaped(
    queue_running=values | st.lists(queue_items, max_size=3), queue_pending=values | st.lists(queue_items, max_size=3)
)
timed = st.fixed_dictionaries({"timestamp": numbers})
near_histories = st.fixed_dictionaries(
    {
        "p": st.fixed_dictionaries(
            {
                "status": st.fixed_dictionaries(
                    {
                        "messages": st.tuples(
                            st.tuples(st.just("execution_start"), timed).map(list),
                            st.tuples(st.just("execution_success") | KINDS, timed).map(list),
                        ).map(list)
                    }
                )
            }
        )
    }
)
messages = st.lists(
    values
    | st.tuples(KINDS, values | shaped(timestamp=numbers, exception_message=values, exception_type=values)).map(list),
    max_size=4,
)
histories = shaped(
    p=values
    | shaped(
        prompt=values,
        outputs=values | st.dictionaries(st.text(max_size=2), values | shaped(images=values), max_size=3),
        status=values | shaped(status_str=st.sampled_from(("success", "error")) | values, messages=values | messages),
    )
)


def as_sent(body: Any) -> Any:
    """Through JSON and back, as every answer comes."""
    return json.loads(json.dumps(body))


@given(st.text() | st.binary())
def test_reading_a_frame_never_raises(frame):
    """Any text and any bytes are some event."""
    assert isinstance(read_frame(frame), EVENTS)


@given(values | frames | near_frames)
def test_reading_anything_like_a_frame_never_raises(message):
    """Any JSON, and above all JSON that is nearly a frame, is some event."""
    assert isinstance(read_frame(json.dumps(message)), EVENTS)


@given(st.binary())
def test_bytes_are_previews(frame):
    """No binary frame is ever anything else."""
    assert read_frame(frame) == Preview()


@given(KINDS, st.text(), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_frame_speaks_of_the_prompt_it_names(kind, prompt_id, value, most):
    """No event is ever about another prompt than its frame's."""
    data = {"prompt_id": prompt_id, "node": "3", "value": value, "max": most}
    event = read_frame(json.dumps({"type": kind, "data": data}))
    assert isinstance(event, Unknown) or getattr(event, "prompt_id", None) == prompt_id


@given(st.sampled_from((200, 400)), values | submissions)
def test_an_answer_to_a_post_is_taken_refused_or_invalid(status, body):
    """Whatever comes back from a post, nothing but InvalidResponse is raised, and a refusal has a reason."""
    try:
        answer = read_submission("server", status, as_sent(body))
    except InvalidResponse:
        return
    assert isinstance(answer, PostAccepted | PromptRejected)
    if isinstance(answer, PromptRejected):
        assert answer.reasons
        assert all(reason.strip() for reason in answer.reasons)
    else:
        assert status == 200


@given(values | queues)
def test_an_answer_about_the_queue_is_a_queue_or_invalid(body):
    """Whatever comes back, nothing but InvalidResponse is raised, and ids are text."""
    try:
        queue = read_queue("server", as_sent(body))
    except InvalidResponse:
        return
    assert isinstance(queue, Queue)
    assert all(isinstance(name, str) for name in (*queue.running, *queue.pending, *queue.notes.values()))


@given(values | histories | near_histories)
def test_an_answer_about_a_prompt_is_an_outcome_or_invalid(body):
    """Whatever comes back, nothing but InvalidResponse is raised."""
    try:
        outcome = read_history("server", "p", as_sent(body))
        found = find_in_history("server", as_sent(body), "p")
    except InvalidResponse:
        return
    assert outcome is None or isinstance(outcome, Success | SampleError)
    assert found is None or isinstance(found, str)
    if isinstance(outcome, Success):
        assert outcome.seconds is None or outcome.seconds >= 0


@given(values | st.tuples(st.just("COMBO"), shaped(options=values)))
def test_choices_of_anything_are_texts(spec):
    """Whatever stands where a specification should, its choices are a list of texts."""
    assert all(isinstance(choice, str) for choice in choices_of(as_sent(spec)))


@given(st.text(max_size=30), st.lists(st.text(max_size=30), max_size=30))
def test_a_suggestion_names_only_what_there_is(got, choices):
    """A suggestion is empty or begins a clause, and what it proposes exists."""
    clause = suggestion(got, choices)
    assert (clause == "") == (not choices)
    if clause.startswith("; did you mean "):
        assert clause in {f"; did you mean {choice!r}?" for choice in choices}


# ---- every decoder, whatever it is given ------------------------------------------------

note = shaped(
    id=values, index=numbers, take=numbers, post=numbers, seed=numbers, batch=numbers, recipe=values
) | st.fixed_dictionaries(
    {key: st.integers(0, 9) for key in ("index", "take", "post", "seed", "batch")} | {"id": texts, "recipe": texts}
)
items = values | st.tuples(values, texts | values, values, values | shaped(reggen=values | note)).map(list)
entries = values | shaped(
    prompt=items,
    outputs=values
    | st.dictionaries(
        texts, shaped(images=st.lists(shaped(filename=texts, subfolder=values, type=values))), max_size=2
    ),
    status=values | shaped(status_str=values, messages=messages),
)
failures = st.fixed_dictionaries(
    {
        "status": st.fixed_dictionaries(
            {
                "messages": st.lists(
                    st.tuples(
                        st.just("execution_error"),
                        shaped(exception_type=values, exception_message=values, node_id=values, node_type=values),
                    ).map(list),
                    min_size=1,
                    max_size=2,
                )
            }
        )
    }
)
bodies = (
    values
    | submissions
    | shaped(queue_running=values | st.lists(items, max_size=3), queue_pending=values | st.lists(items, max_size=3))
    | st.dictionaries(st.just("p") | texts, entries | failures, max_size=3)
    | shaped(system=values | shaped(comfyui_version=values), exec_info=values | shaped(queue_remaining=numbers))
    | shaped(devices=values | st.lists(values | shaped(vram_free=numbers, vram_total=numbers), max_size=3))
    | shaped(
        status=st.sampled_from(("completed", "failed", "pending")) | values,
        outputs=st.dictionaries(texts, shaped(images=st.lists(shaped(filename=texts)))),
        execution_error=values | shaped(exception_type=values, exception_message=values, node_id=values),
        execution_start_time=numbers,
        execution_end_time=numbers,
    )
    | shaped(p=values | shaped(input=values | shaped(required=values, optional=values)))
)


def words(value: Any) -> Iterator[str]:
    """Every text in what a decoder gives."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from (*words(key), *words(inner))
    elif isinstance(value, list | tuple | set):
        for inner in value:
            yield from words(inner)
    elif isinstance(value, Exception):
        yield from words(value.args)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from words(getattr(value, field.name))


def is_clean(text: str) -> bool:
    """No half of a character, nothing that a terminal obeys, no line end, and a few kB at most."""
    turning = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    return len(text) <= max(NAME, TEXT) + 200 and not any(
        letter in turning or unicodedata.category(letter) in {"Cc", "Cs", "Zl", "Zp"} for letter in text
    )


DECODERS: dict[str, Callable[[Any], Any]] = {
    "post accepted": lambda body: read_submission("a", 200, body),
    "post refused": lambda body: read_submission("a", 400, body),
    "post dropped": read_partly_queued,
    "queue": lambda body: read_queue("a", body),
    "queue item": slim_item,
    "history": lambda body: read_history("a", "p", body),
    "job": lambda body: read_job("a", "p", body),
    "unknown job": is_unknown_job,
    "history find": lambda body: find_in_history("a", body, "p"),
    "history entry": slim_entry,
    "orphans": lambda body: read_orphans("a", body, body),
    "orphans queued": lambda body: read_orphans("a", {"queue_running": [body], "queue_pending": body}, {}),
    "orphans done": lambda body: read_orphans("a", {}, {"p": body}),
    "depth": lambda body: read_queue_depth("a", body),
    "version": read_version,
    "memory": read_free_memory,
    "suggestion": lambda body: suggestion("p", choices_of(body)),
    "frame": lambda body: read_frame(json.dumps(body)),
    "text": lambda body: summary(json.dumps(body, ensure_ascii=False)),
}


@given(st.sampled_from(sorted(DECODERS)), bodies | items | entries | frames | near_frames, st.booleans())
def test_nothing_a_server_says_hurts(decoder: str, body: Any, through_parsing: bool) -> None:
    """Whatever JSON comes to whatever decoder: InvalidResponse or a value, and no text in it that could hurt."""
    sent = json.dumps(body)
    try:
        found = DECODERS[decoder](parse_json(sent) if through_parsing else json.loads(sent))
    except (InvalidResponse, Unacceptable) as error:
        found = error
    assert all(map(is_clean, words(found))), found


@given(bodies)
def test_a_node_class_has_tables_of_inputs_or_is_none(body: Any) -> None:
    """Whatever /object_info says, its groups of inputs can be gone through."""
    with suppress(InvalidResponse):
        found = read_node_class("a", as_sent(body), "p")
        assert body == {} if found is None else all(isinstance(table, dict) for table in found["input"].values())


@given(bodies)
def test_numbers_that_come_out_can_be_calculated_with(body: Any) -> None:
    """Neither infinite nor beyond what a database holds."""
    sent = as_sent(body)
    numbers = [read_free_memory(sent) or 0]
    with suppress(InvalidResponse):
        numbers.append(read_queue_depth("a", sent))
    with suppress(InvalidResponse):
        numbers += [number for one in read_orphans("a", sent, sent) for number in (one.index, one.seed, one.batch)]
    assert all(-(2**63) <= number < 2**63 for number in numbers)
