"""What stands before a server at night refuses, limits, moves or encrypts: each through a `Front` of our own."""

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
from tests.chaos.real import Comfy
from tests.chaos.stage import Stage

_SAID = 15.0  # seconds within which a refusal is to be told
_REFUSING = 30.0  # seconds for which everything is refused
_APART = 0.25  # seconds between two requests that a limit lets pass
_PREFIX = "/some/prefix"
_SECRETS = ("live-token", "live-key")
_KEYS = f'headers = {{ Authorization = "Bearer {_SECRETS[0]}", X-Api-Key = "{_SECRETS[1]}" }}'
_CERTIFY = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=comfyui -keyout key.pem -out server.pem"


# ---- what stands there


@asynccontextmanager
async def door(comfy: Comfy, _: Path) -> AsyncIterator[Front]:
    """A proxy that passes everything on, for now."""
    async with Front(comfy.url, keys=_KEYS).open() as front:
        yield front


@asynccontextmanager
async def prefixed(comfy: Comfy, _: Path) -> AsyncIterator[Front]:
    """The server under a path of its own; there is nothing else at that address."""
    async with Front(comfy.url, keys=_KEYS, prefix=_PREFIX).open() as front:
        yield front


@asynccontextmanager
async def certified(comfy: Comfy, place: Path) -> AsyncIterator[Front]:
    """A certificate that names no address and that nobody has signed, as ComfyUI's README makes one; it is pinned."""
    making = await asyncio.create_subprocess_exec(
        *_CERTIFY.split(), cwd=place, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    assert await making.wait() == 0, "openssl makes no certificate"
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(place / "server.pem", place / "key.pem")
    async with Front(comfy.url, keys=f'certificate = "{(place / "server.pem").as_posix()}"').open(context) as front:
        yield front


class Moved(Front):
    """A server whose pictures lie elsewhere: `/view` names another address, under which a store has them."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream, self._elsewhere, keys=_KEYS)
        self.store = Front(upstream)

    def _elsewhere(self, request: web.Request) -> web.Response | None:
        if not request.path.endswith("/view"):
            return None
        there = f"{self.store.url}{request.raw_path}&X-Signature=0123456789abcdef"
        return web.Response(status=302, headers={"Location": there})


@asynccontextmanager
async def moved(comfy: Comfy, _: Path) -> AsyncIterator[Front]:
    """The two of them."""
    front = Moved(comfy.url)
    async with front.store.open(), front.open():
        yield front


@asynccontextmanager
async def limited(comfy: Comfy, _: Path) -> AsyncIterator[Front]:
    """Four requests a second and not one more, from the first on: the next that comes too early is answered by 429."""
    passed = -math.inf

    def too_early(_: web.Request) -> web.Response | None:
        nonlocal passed
        if time.monotonic() - passed < _APART:
            return page(429, "429 Too Many Requests")
        passed = time.monotonic()
        return None

    async with Front(comfy.url, too_early, keys=_KEYS).open() as front:
        yield front


# ---- what happens there


async def token(stage: Stage) -> None:
    """Every request is answered by 401 for a while, as when a token expires; the socket lives on."""
    await _refuses(stage, _expired, r"\b401\b.*\bheaders\b")


async def login(stage: Stage) -> None:
    """Every request is answered by a login page, with 200."""
    await _refuses(stage, lambda _: page(200, "Sign in"), "Sign in")


async def forbidden(stage: Stage) -> None:
    """Only the history is forbidden; posts are taken, and the queue is shown."""
    await _refuses(stage, _no_history, r"\b403\b")


def _expired(_: web.Request) -> web.Response:
    wanted = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
    return web.json_response({"error": "the token has expired"}, status=401, headers=wanted)


def _no_history(request: web.Request) -> web.Response | None:
    return page(403, "403 Forbidden") if "/history" in request.path else None


async def _refuses(stage: Stage, rule: Rule, words: str) -> None:
    """Refuse for a while: it is said once, soon, and goes on by itself."""
    await stage.reach(0.3)
    _front(stage).rule = rule
    stage.facts["said after, s"] = await stage.says(f"is away.*{words}", _SAID)
    await asyncio.sleep(_REFUSING)
    said = stage.lines(f"is away.*{words}")
    assert len(said) == 1, f"said {len(said)} times: {said}"
    _front(stage).rule = server_itself
    await stage.goes_on()


async def large(stage: Stage) -> None:
    """No post is small enough for the proxy, and never will be: the run ends, with what to do about it."""
    posts = [one for one in _front(stage).asked if one.method == "POST"]
    assert not posts, "it was posted before the proxy refused it"
    _front(stage).rule = _too_large
    await stage.process.wait()
    posts = [one for one in _front(stage).asked if one.method == "POST" and one.path.endswith("/prompt")]
    stage.facts["posts"] = len(posts)
    assert posts, "nothing was posted"
    assert len(posts) <= 10, f"posted {len(posts)} times"  # five refusals in a row, and what was under way
    assert stage.lines("client_max_body_size"), "nobody was told what to do"


def _too_large(request: web.Request) -> web.Response | None:
    posts = request.method == "POST" and request.path.endswith("/prompt")
    return page(413, "413 Request Entity Too Large") if posts else None


async def rate(stage: Stage) -> None:
    """What the proxy lets through is enough, though not for every question at once."""
    await stage.process.wait()
    stage.facts["requests"] = len(_front(stage).asked)


async def prefix(stage: Stage) -> None:
    """The server lives under a path: every request goes there."""
    await stage.process.wait()
    astray = [one.path for one in _front(stage).asked if not one.path.startswith(_PREFIX + "/")]
    assert not astray, f"asked beside the prefix: {astray[:5]}"


async def tls(stage: Stage) -> None:
    """Everything is encrypted, under the certificate that the job names."""
    await stage.process.wait()
    stage.facts["requests"] = len(_front(stage).asked)


async def redirect(stage: Stage) -> None:
    """Pictures come from another address, which hears nothing of the job's headers."""
    await stage.process.wait()
    front = stage.between
    assert isinstance(front, Moved)
    stage.facts["pictures from elsewhere"] = len(front.store.asked)
    assert front.store.asked, "no picture came from the other address"
    for one in front.store.asked:
        told = {key.lower() for key in one.headers} & {"authorization", "x-api-key", "cookie"}
        assert not told, f"the other address was told {told}"
        assert not any(secret in value for value in one.headers.values() for secret in _SECRETS)
        assert one.path == "/view", f"the other address was asked for {one.path}"


def _front(stage: Stage) -> Front:
    """The proxy that a scenario was given."""
    assert isinstance(stage.between, Front)
    return stage.between
