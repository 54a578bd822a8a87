"""Breakages by what stands before a server: it refuses, limits, moves or encrypts, each through a `Front`."""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from tests.chaos.between import Front, Rule, page, server_itself
from tests.chaos.real import RealComfy
from tests.chaos.stage import Stage

_SAID = 15.0  # seconds within which reggen must report a refusal
_REFUSING = 30.0  # seconds for which everything is refused
_APART = 0.25  # seconds between two requests that a limit lets pass
_PREFIX = "/some/prefix"
_SECRETS = ("live-token", "live-key")
_KEYS = f'headers = {{ Authorization = "Bearer {_SECRETS[0]}", X-Api-Key = "{_SECRETS[1]}" }}'
_CERTIFY = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=comfyui -keyout key.pem -out server.pem"


# ---- settings


@asynccontextmanager
async def door(comfy: RealComfy, _: Path) -> AsyncIterator[Front]:
    """A proxy that passes everything on, until its rule changes."""
    async with Front(comfy.url, keys=_KEYS).open() as front:
        yield front


@asynccontextmanager
async def prefixed(comfy: RealComfy, _: Path) -> AsyncIterator[Front]:
    """The server under a path; there is nothing else at that address."""
    async with Front(comfy.url, keys=_KEYS, prefix=_PREFIX).open() as front:
        yield front


@asynccontextmanager
async def certified(comfy: RealComfy, place: Path) -> AsyncIterator[Front]:
    """An unsigned certificate that names no address, as RealComfyUI's README makes one; the job pins it."""
    making = await asyncio.create_subprocess_exec(
        *_CERTIFY.split(), cwd=place, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    assert await making.wait() == 0, "openssl has made no certificate"
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(place / "server.pem", place / "key.pem")
    async with Front(comfy.url, keys=f'certificate = "{(place / "server.pem").as_posix()}"').open(context) as front:
        yield front


class Moved(Front):
    """A server whose pictures are elsewhere: `/view` redirects to another address, where a store has them."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream, self._elsewhere, keys=_KEYS)
        self.store = Front(upstream)

    def _elsewhere(self, request: web.Request) -> web.Response | None:
        if not request.path.endswith("/view"):
            return None
        there = f"{self.store.url}{request.raw_path}&X-Signature=0123456789abcdef"
        return web.Response(status=302, headers={"Location": there})


@asynccontextmanager
async def moved(comfy: RealComfy, _: Path) -> AsyncIterator[Front]:
    """A server that redirects to a store."""
    front = Moved(comfy.url)
    async with front.store.open(), front.open():
        yield front


@asynccontextmanager
async def limited(comfy: RealComfy, _: Path) -> AsyncIterator[Front]:
    """A proxy that lets four requests a second through, from the first on, and answers the others with 429."""
    passed = -math.inf

    def too_early(_: web.Request) -> web.Response | None:
        nonlocal passed
        if time.monotonic() - passed < _APART:
            return page(429, "429 Too Many Requests")
        passed = time.monotonic()
        return None

    async with Front(comfy.url, too_early, keys=_KEYS).open() as front:
        yield front


# ---- what breaks there


async def token(stage: Stage) -> None:
    """Answer every request with 401 for a while, as when a token expires; the socket lives on."""
    await _refuses(stage, _expired, r"\b401\b.*\bheaders\b")


async def login(stage: Stage) -> None:
    """Answer every request with a login page and 200 for a while."""
    await _refuses(stage, lambda _: page(200, "Sign in"), "Sign in")


async def forbidden(stage: Stage) -> None:
    """Forbid the history for a while; posts are taken, and the queue is shown."""
    await _refuses(stage, _no_history, r"\b403\b")


def _expired(_: web.Request) -> web.Response:
    wanted = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
    return web.json_response({"error": "the token has expired"}, status=401, headers=wanted)


def _no_history(request: web.Request) -> web.Response | None:
    return page(403, "403 Forbidden") if "/history" in request.path else None


async def _refuses(stage: Stage, rule: Rule, words: str) -> None:
    """Refuse for a while: reggen reports it once, soon, and goes on by itself."""
    await stage.reach(0.3)
    _front(stage).rule = rule
    stage.facts["said after, s"] = await stage.says(f"is away.*{words}", _SAID)
    await asyncio.sleep(_REFUSING)
    said = stage.lines(f"is away.*{words}")
    assert len(said) == 1, f"said {len(said)} times: {said}"
    _front(stage).rule = server_itself
    await stage.goes_on()


async def large(stage: Stage) -> None:
    """Refuse every post as too large: the run ends, and says what to do about it."""
    posts = [one for one in _front(stage).requests if one.method == "POST"]
    assert not posts, "it was posted before the proxy refused it"
    _front(stage).rule = _too_large
    await stage.process.wait()
    posts = [one for one in _front(stage).requests if one.method == "POST" and one.path.endswith("/prompt")]
    stage.facts["posts"] = len(posts)
    assert posts, "nothing was posted"
    assert len(posts) <= 10, f"posted {len(posts)} times"  # five refusals in a row, and what was under way
    assert stage.lines("client_max_body_size"), "the run did not say what to do"


def _too_large(request: web.Request) -> web.Response | None:
    posts = request.method == "POST" and request.path.endswith("/prompt")
    return page(413, "413 Request Entity Too Large") if posts else None


async def rate(stage: Stage) -> None:
    """Run with the requests that the proxy lets through."""
    await stage.process.wait()
    stage.facts["requests"] = len(_front(stage).requests)


async def prefix(stage: Stage) -> None:
    """Check that every request goes to the server's path."""
    await stage.process.wait()
    astray = [one.path for one in _front(stage).requests if not one.path.startswith(_PREFIX + "/")]
    assert not astray, f"asked beside the prefix: {astray[:5]}"


async def tls(stage: Stage) -> None:
    """Run over TLS, with the certificate that the job pins."""
    await stage.process.wait()
    stage.facts["requests"] = len(_front(stage).requests)


async def redirect(stage: Stage) -> None:
    """Check that pictures come from another address, which gets none of the job's headers."""
    await stage.process.wait()
    front = stage.between
    assert isinstance(front, Moved)
    stage.facts["pictures from elsewhere"] = len(front.store.requests)
    assert front.store.requests, "no picture came from the other address"
    for one in front.store.requests:
        sent = {key.lower() for key in one.headers} & {"authorization", "x-api-key", "cookie"}
        assert not sent, f"the other address was sent {sent}"
        assert not any(secret in value for value in one.headers.values() for secret in _SECRETS)
        assert one.path == "/view", f"the other address was asked for {one.path}"


def _front(stage: Stage) -> Front:
    """The proxy of a breakage."""
    assert isinstance(stage.between, Front)
    return stage.between
