"""Hostile servers over real sockets: nothing they say hurts, however much of it there is."""

from __future__ import annotations

import contextlib
import gzip
import json
import tracemalloc
import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from aiohttp import web

from reggen.comfy.client import Client, Timeouts
from reggen.comfy.history import ImageRef
from reggen.comfy.submission import submission
from reggen.errors import ExecutionError, HttpStatusError, InvalidResponse, PromptRejected, SampleError, ServerError
from reggen.workflow.graph import built_in
from tests.answering import Handler, answering

TIMEOUTS = Timeouts(connect=5.0, request=60.0, download=5.0)
ID = "00000000-0000-4000-8000-000000000001"
PIECE = b"x" * (1 << 20)
SECRET = "s3cret-t0ken"

Call = Callable[[Client], Awaitable[Any]]


async def seen(client: Client) -> int:
    async with client.view(ImageRef("a.png", "", "output")) as download:
        return sum([len(chunk) async for chunk in download])


CALLS: dict[str, Call] = {
    "post": lambda client: client.post(submission(built_in(), "me", ID, {"index": 0})),
    "queue": lambda client: client.queue(),
    "history": lambda client: client.history(ID),
    "find": lambda client: client.find(ID),
    "orphans": lambda client: client.orphans(),
    "remaining": lambda client: client.queue_depth(),
    "version": lambda client: client.version(),
    "memory": lambda client: client.free_memory(),
    "node": lambda client: client.node_class("KSampler"),
    "delete": lambda client: client.delete([ID]),
    "free": lambda client: client.unload_models(),
    "view": seen,
}


def saying(body: bytes, status: int = 200, **headers: str) -> Handler:
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body, status=status, headers={"Content-Type": "application/json", **named})

    return answer


def streaming(head: bytes, piece: bytes, count: int, status: int = 200, headers: Mapping[str, str] = {}) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers={"Content-Type": "application/json", **headers})
        with contextlib.suppress(ConnectionError):
            await response.prepare(request)
            await response.write(head)
            for _ in range(count):
                await response.write(piece)
        return response

    return answer


def bomb(head: bytes, piece: bytes, count: int) -> bytes:
    """A gzip of the head and so many pieces; each piece is packed alike, and only the sum at the end is wrong."""
    packer = zlib.compressobj(9, wbits=31)
    packed_head, packed = (packer.compress(part) + packer.flush(zlib.Z_FULL_FLUSH) for part in (head, piece))
    return packed_head + packed * count + packer.flush()


BODIES: dict[str, Handler] = {
    "nothing": saying(b""),
    "a number": saying(b"5"),
    "a list": saying(b"[]"),
    "null": saying(b"null"),
    "an empty object": saying(b"{}"),
    "no lists": saying(b'{"queue_running": 5, "queue_pending": {"a": 1}}'),
    "odd items": saying(b'{"queue_running": [5, null, [], [1], [1, 2]], "queue_pending": [{}]}'),
    "Infinity": saying(b'{"exec_info": {"queue_remaining": Infinity}, "devices": [{"vram_free": 1e999}]}'),
    "a number of 5,000 digits": saying(b'{"exec_info": {"queue_remaining": ' + b"9" * 5_000 + b"}}"),
    "an endless timestamp": saying(
        json.dumps(
            {
                ID: {
                    "status": {
                        "messages": [
                            ["execution_start", {"timestamp": 1}],
                            ["execution_success", {"timestamp": float("inf")}],
                        ]
                    }
                }
            }
        ).encode()
    ),
    "half a character": saying(
        json.dumps(
            {
                ID: {"status": {"messages": [["execution_error", {"exception_message": "\ud800"}]]}},
                "prompt_id": "\ud800",
                "error": "\ud800",
                "system": {"comfyui_version": "\ud800"},
                "queue_running": [[1, "\ud800"]],
                "queue_pending": [],
            }
        ).encode()
    ),
    "inputs that are no table": saying(b'{"KSampler": {"input": {"required": [1], "optional": "x"}}}'),
    "depth": saying(b'{"a":' + b"[" * 200_000),
    "no UTF-8": saying(b"\xff\xfe\xfa"),
    "an unknown charset": saying(b"{}", Content_Type="application/json; charset=klingon"),
    "an odd charset": saying(b"<html>", 500, Content_Type='text/html; charset="idna'),
    "a damaged pack": saying(b"{}", Content_Encoding="gzip"),
    "an odd pack": saying(b"{}", Content_Encoding="br"),
    "a cut pack": saying(gzip.compress(b"{}" * 100)[:-20], Content_Encoding="gzip"),
    "an address that is none": saying(b"", 302, Location="http://[::1"),
    "a port that is none": saying(b"", 308, Location="http://a:99999999/x"),
    "an endless wait": saying(b"", 503, Retry_After="9" * 400),
    "a date beyond time": saying(b"", 503, Retry_After="Fri, 31 Dec 999999 23:59:59 GMT"),
    "a date of nothing": saying(b"", 503, Retry_After=", , ,"),
    "cookies": saying(b"{}", Set_Cookie="a\x07=\xff; Expires=never; Max-Age=" + "9" * 400),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("body", BODIES)
async def test_whatever_a_server_says_becomes_an_error_of_ours_or_a_value(body: str, call: str) -> None:
    """No exception of a library comes through, whatever is asked and whatever is answered."""
    async with answering(BODIES[body]) as url, Client(url, name="here", timeouts=TIMEOUTS) as client:
        try:
            found = await CALLS[call](client)
        except (ServerError, SampleError) as error:
            found = error
        str(found).encode()  # what cannot be written down would end the run later


LARGE = 200  # MB; what may be held of them is a small part
HUGE: dict[str, tuple[str, Handler, str]] = {
    "history": ("history", streaming(b'{"a": "', PIECE, LARGE), "the answer is larger than 4 MB"),
    "post": ("post", streaming(b'{"error": "', PIECE, LARGE), "the answer is larger than 4 MB"),
    "node": ("node", streaming(b'{"a": "', PIECE, LARGE), "the answer is larger than 8 MB"),
    "queue of one item": ("queue", streaming(b'{"queue_running": ["', PIECE, LARGE), "an item of more than 8 MB"),
    "queue of many": (
        "queue",
        streaming(b'{"queue_running": [[]', b', [1, "' + PIECE + b'"]', LARGE),
        "the answer is larger than 64 MB",
    ),
    "newest of the history": (
        "orphans",
        streaming(b'{"queue_running": [], "queue_pending": [], "a": [[]', b', [1, "' + PIECE + b'"]', LARGE),
        "the answer is larger than 64 MB",
    ),
    "empty lists": ("history", streaming(b'{"a": [[]', b",[]" * 300_000, LARGE), "larger than 4 MB"),
    "a refusal": ("remaining", streaming(b"", PIECE, LARGE, 500), "HTTP 500: xxx"),
    "spaces": ("queue", streaming(b" ", b" " * (1 << 20), LARGE), "the answer is larger than 64 MB"),
    "spaces at the end": ("queue", streaming(b"{}", b" " * (1 << 20), LARGE), "the answer is larger than 64 MB"),
    "a packed history": (
        "history",
        saying(bomb(b'{"a": "', PIECE, LARGE), Content_Encoding="gzip"),
        "the answer is larger than 4 MB",
    ),
    "a packed refusal": ("post", saying(bomb(b"", PIECE, LARGE), 500, Content_Encoding="gzip"), "HTTP 500: xxx"),
    "a packed acknowledgement": (
        "delete",
        saying(bomb(b"", PIECE, LARGE), Content_Encoding="gzip"),
        "the answer is larger than 4 MB",
    ),
}


@pytest.mark.parametrize("case", HUGE)
async def test_an_answer_without_measure_is_not_read_to_its_end(case: str) -> None:
    """200 MB are refused after a few, packed or not, and said; the next answer is read as ever."""
    call, handler, what = HUGE[case]
    quiet = False

    async def answer(request: web.Request) -> web.StreamResponse:
        return await (saying(b'{"exec_info": {"queue_remaining": 3}}') if quiet else handler)(request)

    async with answering(answer) as url, Client(url, name="here", timeouts=TIMEOUTS) as client:
        tracemalloc.start()
        try:
            with pytest.raises(ServerError, match=what) as caught:
                await CALLS[call](client)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        quiet = True
        assert await client.queue_depth() == 3
    assert most < 40_000_000
    assert isinstance(caught.value, HttpStatusError if "HTTP" in what else InvalidResponse)
    assert len(str(caught.value)) < 400


async def test_a_queue_of_hundreds_with_large_workflows_is_read() -> None:
    """Other people's 300 prompts, 60 kB each: ours is found among them."""
    item = [1, "somebody", {"1": {"class_type": "X", "inputs": {"text": "w" * 60_000}}}, {"extra_pnginfo": {}}, []]
    ours = [2, "chosen-there", {}, {"reggen": {"id": ID, "index": 0}}, []]
    body = json.dumps({"queue_running": [item], "queue_pending": [item] * 300 + [ours]}).encode()
    assert len(body) > 18_000_000
    async with answering(saying(body)) as url, Client(url, timeouts=TIMEOUTS) as client:
        queue = await client.queue()
        assert (len(queue.running), len(queue.pending)) == (1, 301)
        assert await client.find(ID) == "chosen-there"


async def test_a_long_history_is_read_for_what_is_ours() -> None:
    """The newest 200 entries, 200 kB each."""
    graph = {"1": {"class_type": "X", "inputs": {"text": "w" * 200_000}}}
    note = {"id": ID, "index": 0, "take": 0, "post": 1, "seed": 5, "batch": 1, "recipe": "r"}
    entries: dict[str, Any] = {f"other-{number}": {"prompt": [1, "o", graph, {}, []]} for number in range(199)}
    entries["mine"] = {"prompt": [1, "mine", graph, {"reggen": note}, []], "status": {"status_str": "success"}}
    queue = b'{"queue_running": [], "queue_pending": []}'
    body = json.dumps(entries).encode()

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=queue if request.path == "/queue" else body, content_type="application/json")

    async with answering(answer) as url, Client(url, timeouts=TIMEOUTS) as client:
        [orphan] = await client.orphans()
    assert (orphan.known_as, orphan.seed, orphan.recipe) == ("mine", 5, "r")


async def test_thirty_megabytes_of_a_message_are_a_few_kilobytes_here() -> None:
    """A node's message goes to the ledger and to the report: it is cut before."""
    error = {"exception_type": "E" * 10_000, "exception_message": "m" * 3_000_000, "node_id": "7" * 9_000}
    failed = {ID: {"status": {"status_str": "error", "messages": [["execution_error", error]]}}}
    refused = {"error": {"message": "m" * 3_000_000, "details": "d" * 10_000}, "node_errors": {}}
    many = {"node_errors": {str(one): {"errors": [{"message": "m" * 500}]} for one in range(2_000)}}
    async with answering(saying(json.dumps(failed).encode())) as url, Client(url, timeouts=TIMEOUTS) as client:
        outcome = await client.history(ID)
    assert isinstance(outcome, ExecutionError)
    assert len(str(outcome)) < 2_000
    for body in (refused, many):
        async with answering(saying(json.dumps(body).encode(), 400)) as url, Client(url, timeouts=TIMEOUTS) as client:
            with pytest.raises(PromptRejected) as caught:
                await CALLS["post"](client)
            assert len(str(caught.value)) < 10_000


@pytest.mark.parametrize("call", ["post", "history", "version", "queue", "remaining"])
@pytest.mark.parametrize("status", [200, 400, 401])
async def test_a_secret_that_is_echoed_goes_no_further(call: str, status: int) -> None:
    """In a refusal, an exception, a version, a page: wherever it stands, it is written nowhere here."""
    told = f"got Authorization: Bearer {SECRET} ({SECRET})"
    body = {
        ID: {"status": {"status_str": "error", "messages": [["execution_error", {"exception_message": told}]]}},
        "error": {"message": told, "details": SECRET},
        "node_errors": {SECRET: {"class_type": SECRET, "errors": [{"message": told}]}},
        "system": {"comfyui_version": told},
    }
    for content in (json.dumps(body).encode(), f"<title>{told}</title>".encode(), told.encode()):
        headers = {"Authorization": f"Bearer {SECRET}"}
        async with (
            answering(saying(content, status)) as url,
            Client(url, name="here", headers=headers, timeouts=TIMEOUTS) as client,
        ):
            try:
                found = await CALLS[call](client)
            except (ServerError, SampleError) as error:
                found = error
            assert SECRET not in f"{found} {found!r}"
            assert "here" in str(found) or isinstance(found, str)
