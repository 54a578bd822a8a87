"""Redirects, TLS and headers: what a job sends goes to its own server, and to nobody else."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from reggen.comfy.client import Client, Timeouts
from reggen.comfy.history import ImageRef
from reggen.comfy.tls import fingerprint
from reggen.engine.clients import connected
from reggen.errors import HttpStatusError, JobError, ServerError, Unreachable, UntrustedCertificate
from reggen.job.servers import Server
from tests.answering import Handler, answering
from tests.certificates import certificate
from tests.conftest import JobMaker, filled

TIMEOUTS = Timeouts(connect=5.0, request=5.0, download=5.0)
HEADERS = {"Authorization": "Bearer s3cret", "X-Api-Key": "s3cret-key", "Cookie": "session=s3cret"}
PICTURE = ImageRef("a b.png", "sub/folder", "output")


class Elsewhere:
    """A host that notes what it is told."""

    def __init__(self, body: bytes = b"the picture") -> None:
        self.body = body
        self.seen: list[tuple[str, dict[str, str]]] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.raw_path, {name.lower(): value for name, value in request.headers.items()}))
        return web.Response(body=self.body)

    def told(self) -> str:
        return repr(self.seen)


def sending_to(location: str, status: int = 302) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": location})

    return answer


async def fetched(client: Client) -> bytes:
    async with client.view(PICTURE) as download:
        return b"".join([chunk async for chunk in download])


async def refusal(client: Client) -> ServerError:
    with pytest.raises(ServerError) as caught:
        await client.queue()
    return caught.value


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirected_socket_is_not_followed(status: int) -> None:
    """No header of the job reaches the other host, nor does anything else; its address is named."""
    elsewhere = Elsewhere()
    async with answering(elsewhere.answer) as other:
        location = f"ws{other.removeprefix('http')}/comfy/ws?clientId=x"
        async with (
            answering(sending_to(location, status)) as url,
            Client(url, headers=HEADERS, timeouts=TIMEOUTS) as client,
        ):
            with pytest.raises(HttpStatusError, match=re.escape(f'write its new address, url = "{other}/comfy"')):
                async with client.connect("me"):
                    pass
    assert elsewhere.seen == []


async def test_a_socket_redirected_to_its_own_host_is_not_followed_either() -> None:
    """One rule: the address that was named is the one that is used."""
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=302, headers={"Location": "/login?next=/ws"})

    async with answering(answer) as url, Client(url, headers=HEADERS, timeouts=TIMEOUTS) as client:
        with pytest.raises(HttpStatusError, match="/login instead of answering: a login"):
            async with client.connect("me"):
                pass
    assert asked == ["/ws"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_picture_is_fetched_where_a_store_keeps_it(status: int) -> None:
    """A signed address is gone to as it is written, and no header of the job goes along."""
    elsewhere, signed = Elsewhere(), "/bucket/a%20b.png?X-Amz-Signature=ab%2Bcd%7E&x=%E2%82%AC"
    async with (
        answering(elsewhere.answer) as store,
        answering(sending_to(store + signed, status)) as url,
        Client(url, headers=HEADERS, timeouts=TIMEOUTS) as client,
    ):
        assert await fetched(client) == b"the picture"
    [(path, headers)] = elsewhere.seen
    assert path == signed
    assert "s3cret" not in elsewhere.told()
    assert headers["user-agent"].startswith("reggen/")


async def test_a_picture_elsewhere_on_the_same_server_is_asked_for_with_its_headers() -> None:
    """A relative redirect stays with the server, which wants its token again."""
    seen = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.path, request.headers.get("X-Api-Key"), dict(request.query)))
        if request.path == "/base/view":
            return web.Response(status=302, headers={"Location": "files/1.png?t=1"})
        return web.Response(body=b"the picture")

    async with answering(answer) as url, Client(f"{url}/base", headers=HEADERS, timeouts=TIMEOUTS) as client:
        assert await fetched(client) == b"the picture"
    assert seen == [
        ("/base/view", "s3cret-key", {"filename": "a b.png", "subfolder": "sub/folder", "type": "output"}),
        ("/base/files/1.png", "s3cret-key", {"t": "1"}),
    ]


async def test_cookies_of_the_server_do_not_travel_to_a_store() -> None:
    """The server's own headers, and the job's, are for this server only."""
    elsewhere = Elsewhere()
    async with answering(elsewhere.answer) as store:

        async def answer(_: web.Request) -> web.Response:
            response = web.Response(status=302, headers={"Location": store.replace("127.0.0.1", "localhost") + "/x"})
            response.set_cookie("session", "s3cret")
            return response

        async with answering(answer) as url, Client(url, headers=HEADERS, timeouts=TIMEOUTS) as client:
            assert await fetched(client) == b"the picture"
    assert "s3cret" not in elsewhere.told()


async def test_a_store_that_has_nothing_is_named(tmp_path: Path) -> None:
    """Its 404 is no word of ComfyUI's that the file is gone."""

    async def nothing(_: web.Request) -> web.Response:
        return web.Response(status=404)

    async with (
        answering(nothing) as store,
        answering(sending_to(f"{store}/x")) as url,
        Client(url, timeouts=TIMEOUTS) as client,
    ):
        with pytest.raises(HttpStatusError, match=r"HTTP 404: 127\.0\.0\.1 says nothing more"):
            await fetched(client)


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "ftp://a/b", "http://[::1", "http://a:99999999/x", "data:image/png;base64,AA"],
)
async def test_a_picture_is_fetched_from_the_web_only(location: str) -> None:
    """No other scheme, and no address that is none; it is said where it was sent."""
    async with answering(sending_to(location)) as url, Client(url, timeouts=TIMEOUTS) as client:
        with pytest.raises(HttpStatusError, match="which is not the address of a picture"):
            await fetched(client)


async def test_a_picture_is_not_run_after_for_ever() -> None:
    """Two addresses that name each other end after a few."""
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=302, headers={"Location": f"/view{len(asked)}"})

    async with answering(answer) as url, Client(url, timeouts=TIMEOUTS) as client:
        with pytest.raises(HttpStatusError, match="it redirects more than 5 times"):
            await fetched(client)
    assert len(asked) == 6


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("https://comfy.example/queue", 'it has moved: write its new address, url = "https://comfy.example"'),
        ("https://comfy.example:8443/api/queue?x=1", 'url = "https://comfy.example:8443/api"'),
        ("https://user:word@comfy.example/queue", 'url = "https://comfy.example"'),
        ("https://[fe80::1]/queue", 'url = "https://[fe80::1]"'),
        ("/other/queue", '/other"'),
        ("/login?next=%2Fqueue", "/login instead of answering: a login, or something else in front of ComfyUI"),
        ("https://sso.example/start?token=abc", "it redirects to https://sso.example/start instead of answering"),
        ("http://[::1", "which is not an address"),
        ("mailto:me", "which is not an address"),
    ],
)
@pytest.mark.parametrize("status", [301, 308, 302])
async def test_a_redirect_names_the_server_s_address_and_not_the_route(location: str, said: str, status: int) -> None:
    """The address in the message can be pasted as it is."""
    async with answering(sending_to(location, status)) as url, Client(url, timeouts=TIMEOUTS) as client:
        error = await refusal(client)
    assert isinstance(error, HttpStatusError)
    assert (error.status, said in str(error)) == (status, True), str(error)


async def test_every_request_says_who_asks() -> None:
    """Some proxies turn away what has no User-Agent; the job's own goes before ours."""
    elsewhere = Elsewhere(b"{}")
    async with answering(elsewhere.answer) as url:
        for headers in ({}, {"User-Agent": "mine/1"}):
            async with Client(url, headers=headers, timeouts=TIMEOUTS) as client:
                await client.version()
                await fetched(client)
                with pytest.raises(HttpStatusError):
                    async with client.connect("me"):
                        pass
    agents = [headers["user-agent"] for _, headers in elsewhere.seen]
    assert all(re.fullmatch(r"reggen/\d+\.\d+\S*", agent) for agent in agents[:3]), agents
    assert agents[3:] == ["mine/1"] * 3


# ---- TLS ------------------------------------------------------------------------------------------


@asynccontextmanager
async def speaking_tls(folder: Path) -> Any:
    """A server with a certificate that names nobody; its socket says one thing and closes."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path != "/ws":
            return web.json_response({"exec_info": {"queue_remaining": 7}})
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await ws.send_str("hello")
        await ws.close()
        return ws

    shown = certificate(folder)
    async with answering(answer, shown.server) as url:
        yield url, shown.pem


async def heard(client: Client) -> list[str | bytes]:
    async with client.connect("me") as connection:
        return [frame async for frame in connection]


async def test_exactly_the_pinned_certificate_is_trusted(tmp_path: Path) -> None:
    """By HTTP and by the socket, whatever name it bears."""
    async with (
        speaking_tls(tmp_path) as (url, pem),
        Client(url, timeouts=TIMEOUTS, pin=fingerprint(pem), headers=HEADERS) as client,
    ):
        assert await client.queue_depth() == 7
        assert await heard(client) == ["hello"]


async def test_another_certificate_than_the_pinned_one_hears_nothing(tmp_path: Path) -> None:
    """Not by HTTP and not by the socket: no request is sent, and the key to change is named."""
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response()

    other = fingerprint(certificate(tmp_path, "other").pem)
    async with (
        answering(answer, certificate(tmp_path).server) as url,
        Client(url, timeouts=TIMEOUTS, pin=other, headers=HEADERS) as client,
    ):
        for call in (client.queue_depth(), heard(client), fetched(client)):
            with pytest.raises(
                UntrustedCertificate, match=r"its certificate is not the one that `certificate` in \[\[servers"
            ) as it:
                await call
            assert not it.value.may_have_arrived
    assert asked == []


async def test_a_certificate_that_nobody_trusts_names_the_key(tmp_path: Path) -> None:
    """In words, without a file of a library's."""
    async with speaking_tls(tmp_path) as (url, _), Client(url, timeouts=TIMEOUTS) as client:
        for call in (client.queue_depth(), heard(client), fetched(client)):
            with pytest.raises(
                UntrustedCertificate, match=r'not trusted \(self.signed certificate\).* certificate = "server.pem"'
            ) as it:
                await call
            assert "_ssl" not in str(it.value)


async def test_a_store_is_not_held_against_the_pin(tmp_path: Path) -> None:
    """The pin is the server's; a picture elsewhere is fetched under the usual rules, which know no such certificate."""
    elsewhere = Elsewhere()
    async with (
        answering(elsewhere.answer) as store,
        answering(elsewhere.answer, certificate(tmp_path, "store").server) as secure,
    ):
        for location, works in ((f"{store}/x", True), (f"{secure}/x", False)):
            shown = certificate(tmp_path)
            async with (
                answering(sending_to(location), shown.server) as url,
                Client(url, timeouts=TIMEOUTS, pin=fingerprint(shown.pem)) as client,
            ):
                if works:
                    assert await fetched(client) == b"the picture"
                else:
                    with pytest.raises(UntrustedCertificate):
                        await fetched(client)


async def test_http_to_a_port_of_https_is_said(tmp_path: Path) -> None:
    """And not taken for a server that hangs up."""
    async with (
        speaking_tls(tmp_path) as (url, _),
        Client(url.replace("https", "http"), timeouts=TIMEOUTS) as client,
    ):
        with pytest.raises(Unreachable, match="it speaks https there, not http: write https://"):
            await client.queue_depth()


async def test_https_to_a_port_of_http_is_said() -> None:
    """By HTTP and by the socket."""
    async with (
        answering(Elsewhere(b"{}").answer) as url,
        Client(url.replace("http", "https"), timeouts=TIMEOUTS) as client,
    ):
        for call in (client.queue_depth(), heard(client)):
            with pytest.raises(Unreachable, match="it speaks http there, not https: write http://"):
                await call


async def test_a_server_that_hangs_up_is_not_called_a_secure_one() -> None:
    """Only a port that really speaks TLS is."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Client(f"http://127.0.0.1:{port}", timeouts=TIMEOUTS) as client:
            with pytest.raises(Unreachable) as caught:
                await client.queue_depth()
    assert "https" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it holds no certificate in PEM form"),
        (b"-----BEGIN PRIVATE KEY-----\nAA\n-----END PRIVATE KEY-----", "it holds no certificate in PEM form"),
        (b"-----BEGIN CERTIFICATE-----\n\xff\n-----END CERTIFICATE-----", "its certificate cannot be read"),
        (b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----", "its certificate cannot be read"),
    ],
    ids=["empty", "a key", "no text", "no base64"],
)
def test_a_file_without_a_certificate_is_said(tmp_path: Path, content: bytes, said: str) -> None:
    """Before the run, in words."""
    (tmp_path / "server.pem").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        fingerprint(tmp_path / "server.pem")


async def test_a_certificate_that_nobody_trusts_is_not_waited_for(tmp_path: Path, job: JobMaker) -> None:
    """Waiting makes it no better: the run ends at once, and names the key."""
    async with speaking_tls(tmp_path) as (url, _):
        with pytest.raises(JobError, match=r'not trusted \(self.signed certificate\).*certificate = "server.pem"'):
            await filled(job(url), wait=True)


async def test_a_job_s_certificate_is_read_before_the_run(tmp_path: Path, job: JobMaker) -> None:
    """A missing or useless file is the job's fault, and the way to get a good one can be pasted."""
    (tmp_path / "empty.pem").touch()
    servers = [
        {"url": "https://a:8443", "certificate": str(tmp_path / "none.pem")},
        {"url": "https://b", "certificate": str(tmp_path / "empty.pem")},
    ]
    with pytest.raises(JobError) as caught:
        async with connected([Server.model_validate(server) for server in servers], job().limits, "test.toml"):
            pass
    said = str(caught.value)
    assert "servers[0].certificate" in said
    assert "none.pem cannot be used: No such file or directory" in said
    assert "empty.pem cannot be used: it holds no certificate" in said
    assert "openssl s_client -connect a:8443 </dev/null" in said
    assert "openssl s_client -connect b:443 </dev/null" in said


async def test_a_job_s_certificate_is_what_its_server_must_show(tmp_path: Path, job: JobMaker) -> None:
    """From the key of the job file to the connection."""
    async with speaking_tls(tmp_path) as (url, pem):
        server = Server.model_validate({"url": url, "certificate": str(pem)})
        async with connected([server], job().limits, "test.toml") as [client]:
            assert await client.queue_depth() == 7


# ---- addresses ------------------------------------------------------------------------------------


@contextmanager
def swallowing(port: int) -> Iterator[str]:
    """An address of this machine at which nobody ever answers: its queue of connections is full."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.2", port))
        listening.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        try:
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(("127.0.0.2", port))
            yield "127.0.0.2"
        finally:
            for one in waiting:
                one.close()


@pytest.mark.skipif(sys.platform != "linux", reason="needs 127.0.0.2, and a full queue that swallows connections")
async def test_a_name_with_one_dead_address_is_reached_by_the_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The socket falls through to the living one, as HTTP does, and not only when all the time is up."""
    loop = asyncio.get_running_loop()
    known: Callable[..., Any] = loop.getaddrinfo

    async def twice(host: str, port: int, **options: Any) -> Any:
        names = ("127.0.0.2", "127.0.0.1") if host == "comfy.test" else (host,)
        return [one for name in names for one in await known(name, port, **options)]

    monkeypatch.setattr(loop, "getaddrinfo", twice)

    async def answer(request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await ws.send_str("hello")
        await ws.close()
        return ws

    async with answering(answer) as url:
        port = int(url.rpartition(":")[2])
        with swallowing(port):
            async with Client(f"http://comfy.test:{port}", timeouts=TIMEOUTS) as client:
                begun = loop.time()
                assert await heard(client) == ["hello"]
                assert loop.time() - begun < TIMEOUTS.connect / 2
