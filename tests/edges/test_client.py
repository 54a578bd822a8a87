"""One server over real sockets: what its failures become, and that nothing foreign comes through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from reggen.comfy.client import Client, Timeouts
from reggen.comfy.history import ImageRef
from reggen.comfy.submission import PostAccepted, submission
from reggen.errors import HttpStatusError, InvalidResponse, PromptRejected, Unreachable
from reggen.sim import Fault, Script, Settings, Sim, serve
from reggen.workflow.graph import built_in
from tests.answering import answering

BRIEF = Timeouts(connect=1.0, request=0.3, download=1.0)
ID = "00000000-0000-4000-8000-000000000001"


def body(prompt_id: str = ID, **changes: object) -> dict[str, object]:
    graph = built_in()
    graph["4"]["inputs"]["ckpt_name"] = "AnythingXL_inkBase.safetensors"
    graph["3"]["inputs"].update(changes)
    return submission(graph, "me", prompt_id, {"index": 0})


@pytest.fixture
async def sim() -> AsyncIterator[Sim]:
    async with serve(Settings(seconds=0.01)) as one:
        yield one


@pytest.fixture
async def client(sim: Sim) -> AsyncIterator[Client]:
    async with Client(sim.url, name="here", timeouts=BRIEF) as one:
        yield one


async def test_a_prompt_is_accepted_under_the_id_we_chose(client: Client) -> None:
    """So that a lost answer can be asked after."""
    assert await client.post(body()) == PostAccepted(ID)
    assert await client.find(ID) == ID


async def test_an_old_server_s_own_id_is_found_by_our_note() -> None:
    """Before July 2025 the server ignored the id and chose one: the note in extra_data tells which."""
    async with serve(Settings(version="2024-10", seconds=0.01)) as old, Client(old.url, timeouts=BRIEF) as client:
        accepted = await client.post(body())
        assert accepted.prompt_id != ID
        assert await client.find(ID) == accepted.prompt_id


async def test_a_prompt_that_never_arrived_is_not_found(client: Client) -> None:
    """None, and no error: it may be posted."""
    assert await client.find(ID) is None


async def test_a_refused_prompt_tells_why_and_what_exists(client: Client) -> None:
    """The node, the input, the value, and the nearest one."""
    posted = body()
    posted["prompt"]["4"]["inputs"]["ckpt_name"] = "AnythingXL.safetensors"  # type: ignore[index]
    with pytest.raises(
        PromptRejected, match=r"CheckpointLoaderSimple \(node 4\): ckpt_name .* mean 'AnythingXL_inkBase"
    ):
        await client.post(posted)


async def test_a_long_list_of_choices_is_only_counted_by_the_server(client: Client) -> None:
    """It does not send the 44 samplers along; its own words stand then, and the preflight names the nearest."""
    with pytest.raises(
        PromptRejected, match=r"KSampler \(node 3\): Value not in list: .*'eular' not in \(list of length 44"
    ):
        await client.post(body(sampler_name="eular"))


async def test_a_prompt_that_lost_an_output_is_refused_and_taken_back(client: Client, sim: Sim) -> None:
    """200 with node errors: the server would quietly make less than was asked for."""
    posted = body()
    graph = posted["prompt"]
    assert isinstance(graph, dict)
    graph["10"] = {"class_type": "SaveImage", "inputs": {"images": ["99", 0], "filename_prefix": "x"}}
    with pytest.raises(PromptRejected):
        await client.post(posted)
    assert sim.count("POST", "/queue") == 1


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault("status", on="post", status=500), HttpStatusError),
        (Fault("status", on="post", status=503, retry_after=7), HttpStatusError),
        (Fault("html", on="post"), InvalidResponse),
        (Fault("reset", on="post"), Unreachable),
        (Fault("silent", on="post"), Unreachable),
    ],
    ids=lambda value: value.do if isinstance(value, Fault) else None,
)
async def test_each_failure_becomes_one_of_three(fault: Fault, kind: type[Exception]) -> None:
    """A status, rubbish, or no answer: and nothing of the libraries beneath."""
    async with serve(script=Script((fault,)), settings=Settings()) as sim, Client(sim.url, timeouts=BRIEF) as client:
        with pytest.raises(kind) as caught:
            await client.post(body())
        if isinstance(caught.value, HttpStatusError):
            assert caught.value.retry_after == (fault.retry_after or 0)
        if isinstance(caught.value, Unreachable):
            assert caught.value.may_have_arrived, "the prompt may be queued: search before you post again"


async def test_a_refused_connection_is_known_not_to_have_arrived() -> None:
    """Nothing needs to be searched for; the sentence asks whether ComfyUI runs."""
    async with Client("http://127.0.0.1:9", timeouts=BRIEF) as client:
        with pytest.raises(Unreachable, match="is ComfyUI running there") as caught:
            await client.post(body())
        assert not caught.value.may_have_arrived
        with pytest.raises(Unreachable):
            async with client.connect("me"):
                pass


async def test_a_frozen_server_is_unreachable_in_time(client: Client, sim: Sim) -> None:
    """It accepts the connection and says nothing: every wait has its limit."""
    frozen = asyncio.create_task(sim.freeze(1.5))
    await asyncio.sleep(0)
    with pytest.raises(Unreachable, match="no answer in time"):
        await client.queue_depth()
    with pytest.raises(Unreachable):
        async with client.connect("me"):
            pass
    await frozen


async def test_a_server_that_is_no_comfyui_is_invalid() -> None:
    """Some other web server lives at this address: JSON or not, it is told apart from ComfyUI."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html><h1>It works!</h1></html>", content_type="text/html")

    async with answering(page) as url, Client(url, timeouts=BRIEF) as client:
        for call in (client.queue_depth(), client.queue(), client.version(), client.post(body())):
            with pytest.raises(InvalidResponse, match=r'a web page \("It works!"\); something in front of') as caught:
                await call
            assert caught.value.is_web_page


async def test_a_refusal_s_page_is_its_status_and_title() -> None:
    """The screen and the report have no use for the markup of a proxy."""

    async def page(_: web.Request) -> web.Response:
        text = "<html><head><title>401 Authorization Required</title></head><body><hr>nginx</body></html>"
        return web.Response(status=401, text=text, content_type="text/html")

    async with answering(page) as url, Client(url, name="here", timeouts=BRIEF) as client:
        with pytest.raises(HttpStatusError) as caught:
            await client.queue()
    expected = 'reading the queue at here: HTTP 401: a web page ("401 Authorization Required")'
    assert (caught.value.status, str(caught.value)) == (401, expected)


async def test_headers_go_with_every_request() -> None:
    """HTTP and WebSocket alike: a proxy asks for its token everywhere."""
    seen: list[tuple[str, str | None]] = []

    async def page(request: web.Request) -> web.Response:
        seen.append((request.path, request.headers.get("Authorization")))
        return web.json_response({})

    headers = {"Authorization": "Bearer s3cret"}
    async with answering(page) as url, Client(url, headers=headers, timeouts=BRIEF) as client:
        await client.version()
        with pytest.raises(HttpStatusError) as caught:
            async with client.connect("me"):
                pass
        assert "s3cret" not in str(caught.value)
    assert seen == [("/system_stats", "Bearer s3cret"), ("/ws", "Bearer s3cret")]


async def test_a_picture_is_streamed_with_its_promised_length(client: Client, sim: Sim) -> None:
    """The writer of the file compares it with what came."""
    await client.post(body())
    async with asyncio.timeout(30):
        while (outcome := await client.history(ID)) is None:
            await asyncio.sleep(0.01)
    assert not isinstance(outcome, Exception)
    [picture] = outcome.images_of("here", "9", 1)
    async with client.view(picture) as download:
        chunks = [chunk async for chunk in download]
    assert download.length == len(b"".join(chunks))
    with pytest.raises(HttpStatusError) as caught:
        async with client.view(ImageRef("no_such.png", "", "output")):
            pass
    assert caught.value.status == 404


@pytest.mark.parametrize("do", ["cut", "endless"])
async def test_a_body_that_breaks_off_is_unreachable(do: str) -> None:
    """Short of its length, or without an end within the time for a download."""
    broken = serve(Settings(seconds=0.01), script=Script((Fault(do),)))
    async with broken as sim, Client(sim.url, timeouts=BRIEF) as client:
        await client.post(body())
        async with asyncio.timeout(30):
            while (outcome := await client.history(ID)) is None:
                await asyncio.sleep(0.01)
        assert not isinstance(outcome, Exception)
        [picture] = outcome.images_of("here", "9", 1)
        with pytest.raises(Unreachable):
            await drained(client, picture)


async def drained(client: Client, picture: ImageRef) -> None:
    async with client.view(picture) as download:
        async for _ in download:
            pass


async def test_version_nodes_and_abilities_are_asked_for(client: Client) -> None:
    """The facts that the preflight needs."""
    assert await client.version() == "0.33.0"
    assert await client.node_class("NoSuchNode") is None
    assert await client.node_class("KSampler") is not None
    assert await client.aims_interrupts()
    async with serve(Settings(version="2024-07")) as old, Client(old.url, timeouts=BRIEF) as ancient:
        assert await ancient.version() == "unknown"
        assert not await ancient.aims_interrupts()
