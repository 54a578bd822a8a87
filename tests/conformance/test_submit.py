"""POST /prompt: accepted and refused prompts, and what becomes of the accepted ones."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.conformance.harness import CHECKPOINT, Comfy, Graph, plain, since, some_color, txt2img


def changed(node: str, **inputs: Any) -> Graph:
    """The classic graph with some inputs of a node replaced, or removed where the value is `...`."""
    graph = txt2img(some_color(), steps=1)
    kept = {**graph[node]["inputs"], **inputs}
    graph[node]["inputs"] = {name: value for name, value in kept.items() if value is not ...}
    return graph


def replaced(node: str, value: Any) -> Graph:
    """The classic graph with another node in one place."""
    return {**txt2img(some_color(), steps=1), node: value}


SAVE = {"images": ["8", 0], "filename_prefix": "conf/x"}

REFUSED: dict[str, tuple[Graph, str, str, str]] = {
    # case: graph, the node that is blamed, the error's type, its details
    "unknown checkpoint": (
        changed("4", ckpt_name="nope.safetensors"),
        "4",
        "value_not_in_list",
        f"ckpt_name: 'nope.safetensors' not in ['{CHECKPOINT}']",
    ),
    "unknown sampler": (
        changed("3", sampler_name="euler_x"),
        "3",
        "value_not_in_list",
        "sampler_name: 'euler_x' not in (list of length {samplers})",
    ),
    "missing input": (changed("3", seed=...), "3", "required_input_missing", "seed"),
    "wrong type": (
        changed("3", seed="abc"),
        "3",
        "invalid_input_type",
        "seed, abc, invalid literal for int() with base 10: 'abc'",
    ),
    "too small": (changed("3", seed=-1), "3", "value_smaller_than_min", "seed"),
    "too big": (changed("3", seed=2**64), "3", "value_bigger_than_max", "seed"),
    "no steps": (changed("3", steps=0), "3", "value_smaller_than_min", "steps"),
    "too wide": (changed("5", width=100_000), "5", "value_bigger_than_max", "width"),
    "no inputs": (replaced("3", {"class_type": "KSampler"}), "3", "exception_during_inner_validation", "'inputs'"),
    "link into nowhere": (changed("8", samples=["99", 0]), "8", "exception_during_inner_validation", "'99'"),
    "wrong slot": (
        changed("8", samples=["3", 5]),
        "8",
        "exception_during_inner_validation",
        "tuple index out of range",
    ),
    "number as node id": (changed("8", samples=[3, 0]), "8", "exception_during_inner_validation", "3"),
    "link of another type": (
        changed("8", samples=["4", 0]),
        "8",
        "return_type_mismatch",
        "samples, received_type(MODEL) mismatch input_type(LATENT)",
    ),
    "link of three": (changed("8", samples=["3", 0, 0]), "8", "bad_linked_input", "samples"),
    "cycle": (changed("3", latent_image=["3", 0]), "3", "dependency_cycle", "3 (KSampler) -> 3 (KSampler)"),
}


CYCLES = since("0.20", "circles are looked for")


@pytest.mark.parametrize("case", [pytest.param(case, marks=CYCLES if case == "cycle" else ()) for case in REFUSED])
async def test_invalid_node_is_named_with_its_fault(comfy: Comfy, case: str):
    """A 400 blames the node, says what is wrong with it, and which outputs hang on it."""
    graph, node, kind, details = REFUSED[case]
    status, body = await comfy.post("/prompt", {"prompt": graph})
    assert status == 400
    assert body["error"]["type"] == "prompt_outputs_failed_validation"
    assert set(body["error"]) == {"type", "message", "details", "extra_info"}
    blamed = body["node_errors"][node]
    assert (blamed["class_type"], blamed["dependent_outputs"]) == (graph[node]["class_type"], ["9"])
    samplers = len((await comfy.get("/object_info/KSampler"))["KSampler"]["input"]["required"]["sampler_name"][0])
    wanted = details.replace("{samplers}", str(samplers))
    assert [(one["type"], one["details"]) for one in blamed["errors"]] == [(kind, wanted)]


@CYCLES
async def test_longer_cycle_blames_every_node_in_it(comfy: Comfy):
    """All nodes of a loop are named, each with the whole way round."""
    status, body = await comfy.post("/prompt", {"prompt": changed("4") | changed("5", width=["8", 0])})
    assert status == 400
    assert "return_type_mismatch" in str(body)
    graph = changed("3", latent_image=["5", 0])
    graph["5"] = {"class_type": "KSampler", "inputs": {**graph["3"]["inputs"], "latent_image": ["3", 0]}}
    status, body = await comfy.post("/prompt", {"prompt": graph})
    assert status == 400
    assert {node: errors["errors"][0]["type"] for node, errors in body["node_errors"].items()} == {
        "3": "dependency_cycle",
        "5": "dependency_cycle",
    }


@since("0.12", "missing_node_type")
async def test_unknown_class_is_a_missing_node_type(comfy: Comfy):
    """The error itself says which class of which node is missing; no node errors are listed."""
    status, body = await comfy.post("/prompt", {"prompt": replaced("9", {"class_type": "NoSuch", "inputs": SAVE})})
    assert status == 400
    assert body == {
        "error": {
            "type": "missing_node_type",
            "message": "Node 'NoSuch' not found. The custom node may not be installed.",
            "details": "Node ID '#9'",
            "extra_info": {"node_id": "9", "class_type": "NoSuch", "node_title": "NoSuch"},
        },
        "node_errors": {},
    }


@since("0.12", "missing_node_type")
async def test_absent_class_is_a_missing_node_type_too(comfy: Comfy):
    """A node that names no class is refused in the same way."""
    status, body = await comfy.post("/prompt", {"prompt": replaced("9", {"inputs": SAVE})})
    assert status == 400
    assert body["error"]["type"] == "missing_node_type"
    assert body["error"]["extra_info"] == {"node_id": "9", "class_type": None, "node_title": None}


@pytest.mark.parametrize("graph", [{}, {"1": plain(1)["1"]}], ids=["empty", "no saver"])
async def test_graph_without_outputs_is_refused(comfy: Comfy, graph: Graph):
    """A prompt must save something."""
    status, body = await comfy.post("/prompt", {"prompt": graph})
    assert (status, body["error"]["type"]) == (400, "prompt_no_outputs")
    assert body["node_errors"] == {}


@pytest.mark.parametrize("body", [b"[1]", b'{"client_id": "x"}'])
async def test_body_without_a_prompt_is_refused(comfy: Comfy, body: bytes):
    """A missing key is a 400 of its own kind."""
    status, answer = await comfy.post("/prompt", body)
    assert (status, answer["error"]["type"]) == (400, "no_prompt")


@pytest.mark.parametrize(
    "body",
    [
        b"{not json",
        b"",
        b'{"prompt": "\xff\xfe"}',
        pytest.param(b'{"prompt": []}', marks=since("0.14", "node replacements, which look into the prompt")),
        b'{"prompt": ["a"]}',
        b'{"prompt": null}',
        b'{"prompt": {"1": null}}',
        pytest.param(
            b'{"prompt": {"1": {"class_type": "SaveImage", "inputs": null}}}',
            marks=since("0.14", "node replacements, which look into the prompt"),
        ),
    ],
)
async def test_nonsense_is_a_500(comfy: Comfy, body: bytes):
    """Anything but a prompt breaks the handler, in plain text."""
    status, answer = await comfy.post("/prompt", body)
    assert status == 500
    assert answer.startswith("500 Internal Server Error")


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"number": "x"}, id="number"),
        # Older servers take it, and their worker dies of it.
        pytest.param({"extra_data": None}, id="extra_data", marks=since("0.3.69", "extra_data.create_time")),
    ],
)
async def test_wrong_companions_of_a_prompt_are_a_500(comfy: Comfy, more: dict[str, Any]):
    """A number that is none, or extra data that is null, breaks the handler too."""
    assert (await comfy.post("/prompt", {"prompt": plain(some_color()), **more}))[0] == 500


@since("0.25", "ids that must be UUIDs")
@pytest.mark.parametrize(
    "prompt_id",
    ["hello", "ECD51FF9-6B9B-4722-BEA0-B927C4A6DEF9", "7f3a1c5e9b2d4a6f8c0e1d3b5a7f9c2e", 5, ""],
)
async def test_prompt_id_must_be_a_canonical_uuid(comfy: Comfy, prompt_id: Any):
    """Any other id than a lower-case UUID with hyphens is refused."""
    status, body = await comfy.post("/prompt", {"prompt": plain(some_color()), "prompt_id": prompt_id})
    assert (status, body["error"]["type"]) == (400, "invalid_prompt_id")


@since("0.3.45", "ids chosen by the client")
async def test_prompt_id_is_honoured(comfy: Comfy):
    """A canonical UUID comes back as the prompt's id."""
    mine = str(uuid.uuid4())
    assert await comfy.submit(plain(some_color()), prompt_id=mine) == mine


@since("0.25", "null as no id")
async def test_prompt_id_that_is_null_lets_the_server_choose(comfy: Comfy):
    """A prompt id of null is none."""
    minted = await comfy.submit(plain(some_color()), prompt_id=None)
    assert str(uuid.UUID(minted)) == minted


async def test_number_counts_refused_prompts_too(comfy: Comfy):
    """The counter goes on with every prompt that came without a number, taken or not."""
    _, first = await comfy.post("/prompt", {"prompt": plain(some_color())})
    await comfy.post("/prompt", {"prompt": {}})
    _, mine = await comfy.post("/prompt", {"prompt": plain(some_color()), "number": 5000})
    _, second = await comfy.post("/prompt", {"prompt": plain(some_color())})
    assert mine["number"] == 5000.0
    assert second["number"] >= first["number"] + 2


async def test_bad_output_beside_a_good_one_is_dropped(comfy: Comfy):
    """One good output is enough for a 200; the bad one is told in node_errors and never runs."""
    graph = plain(some_color())
    graph["10"] = {"class_type": "SaveImage", "inputs": {"images": ["99", 0], "filename_prefix": "x"}}
    status, body = await comfy.post("/prompt", {"prompt": graph})
    assert status == 200
    (error,) = body["node_errors"]["10"]["errors"]
    assert (error["type"], error["details"]) == ("exception_during_validation", "'99'")
    entry = await comfy.entry(body["prompt_id"])
    assert entry["status"]["status_str"] == "success"
    assert list(entry["outputs"]) == ["2"]
    assert entry["prompt"][4] == ["2"]


async def test_values_are_coerced_and_extras_ignored(comfy: Comfy):
    """Strings and fractions become whole numbers where those are wanted; unknown inputs are let be."""
    graph = changed("3", seed="5", cfg="7.5", foo=1)
    graph["5"]["inputs"]["width"] = 64.9
    prompt_id = await comfy.submit(graph)
    entry = await comfy.entry(prompt_id)
    inputs = entry["prompt"][2]["3"]["inputs"]
    assert (inputs["seed"], inputs["cfg"], inputs["foo"]) == (5, 7.5, 1)
    assert entry["prompt"][2]["5"]["inputs"]["width"] == 64
    assert entry["status"]["status_str"] == "success"


@since("0.3.48", "partial_execution_targets")
async def test_partial_execution_runs_the_named_outputs_only(comfy: Comfy):
    """With targets, outputs that are not named do not run; with none of them there is no output."""
    graph = plain(some_color())
    graph["3"] = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    prompt_id = await comfy.submit(graph, partial_execution_targets=["3"])
    assert list((await comfy.entry(prompt_id))["outputs"]) == ["3"]
    status, body = await comfy.post("/prompt", {"prompt": graph, "partial_execution_targets": []})
    assert (status, body["error"]["type"]) == (400, "prompt_no_outputs")


async def test_dead_nodes_are_not_validated(comfy: Comfy):
    """A node that no output needs may be as wrong as it likes, if it has inputs."""
    graph = plain(some_color())
    graph["50"] = {"class_type": "VAEDecode", "inputs": {"samples": ["99", 0], "vae": ["98", 0]}}
    graph["51"] = {"class_type": "KSampler", "inputs": {}}
    prompt_id = await comfy.submit(graph)
    assert (await comfy.entry(prompt_id))["status"]["status_str"] == "success"


async def test_foreign_origin_is_forbidden(comfy: Comfy):
    """A browser page from elsewhere may not talk to a server on this machine."""
    headers = {"Origin": "http://elsewhere.example"}
    async with comfy.http.post(comfy.url + "/prompt", json={"prompt": plain(1)}, headers=headers) as response:
        assert response.status == 403


async def test_value_in_the_place_of_a_link_fails_at_run_time(comfy: Comfy):
    """Validation lets a plain value pass where a link belongs; the node cannot use it."""
    prompt_id = await comfy.submit(changed("3", model="x"))
    event, data = (await comfy.entry(prompt_id))["status"]["messages"][-1]
    assert (event, data["node_id"], data["exception_type"]) == ("execution_error", "3", "AttributeError")
