"""A client made of nothing but sockets and JSON, for asking any server the same questions."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

PATIENCE = 20.0
CHECKPOINT = "AnythingXL_inkBase.safetensors"

Graph = dict[str, Any]
Frame = dict[str, Any]


def txt2img(seed: int, *, steps: int = 4, size: int = 64, prefix: str = "conf/plain", batch: int = 1) -> Graph:
    """The classic graph of seven nodes."""
    sampler = {
        "seed": seed,
        "steps": steps,
        "cfg": 7,
        "sampler_name": "euler_ancestral",
        "scheduler": "normal",
        "denoise": 1.0,
        "model": ["4", 0],
        "positive": ["6", 0],
        "negative": ["7", 0],
        "latent_image": ["5", 0],
    }
    latent = {"width": size, "height": size, "batch_size": batch}
    return {
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": CHECKPOINT}},
        "5": {"class_type": "EmptyLatentImage", "inputs": latent},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "bad", "clip": ["4", 1]}},
        "3": {"class_type": "KSampler", "inputs": sampler},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": prefix}},
    }


def plain(color: int, *, prefix: str | None = "conf/plain", size: int = 32, batch: int = 1) -> Graph:
    """A picture of one colour, saved; with no prefix, as a preview in the temp folder."""
    empty = {"width": size, "height": size, "batch_size": batch, "color": color}
    save: Graph = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    if prefix is not None:
        save = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}}
    return {"1": {"class_type": "EmptyImage", "inputs": empty}, "2": save}


def some_color() -> int:
    """A colour that no earlier prompt has used, so that nothing is cached."""
    return uuid.uuid4().int % 0xFFFFFF


def some_prefix() -> str:
    """A file name prefix in a folder of its own."""
    return f"conf/{uuid.uuid4().hex[:12]}/p"


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something is so, no longer than patience allows."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)


class Ear:
    """An open socket, and every frame it has heard."""

    def __init__(self, connection: ClientConnection, client_id: str) -> None:
        self.connection = connection
        self.client_id = client_id
        self.frames: list[Frame] = []
        self.binary: list[bytes] = []
        self._heard = asyncio.Event()

    async def listen(self) -> None:
        """Collect frames until the connection ends."""
        try:
            async for message in self.connection:
                if isinstance(message, bytes):
                    self.binary.append(message)
                else:
                    self.frames.append(json.loads(message))
                self._heard.set()
        except ConnectionClosed:
            pass

    async def until(self, wanted: Callable[[Frame], bool]) -> Frame:
        """The first frame like this, heard already or within the time that patience allows."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for frame in self.frames:
                    if wanted(frame):
                        return frame
                self._heard.clear()
                await self._heard.wait()

    async def until_done(self, prompt_id: str) -> list[Frame]:
        """Wait for `executing` with node null for this prompt; every frame about it until then."""
        await self.until(lambda frame: ends(frame, prompt_id))
        return self.about(prompt_id)

    def about(self, prompt_id: str) -> list[Frame]:
        """The frames that name this prompt."""
        return [frame for frame in self.frames if frame["data"].get("prompt_id") == prompt_id]


def ends(frame: Frame, prompt_id: str) -> bool:
    """True for the last frame about this prompt."""
    data = frame["data"]
    return frame["type"] == "executing" and data["node"] is None and data.get("prompt_id") == prompt_id


def names(frames: list[Frame], *, without: tuple[str, ...] = ("progress", "progress_state")) -> list[str]:
    """The frames' types, with the node where one is executing."""
    shown = []
    for frame in frames:
        if frame["type"] in without:
            continue
        node = f":{frame['data']['node']}" if frame["type"] in ("executing", "executed") else ""
        shown.append(frame["type"] + node)
    return shown


def _numbers(version: str) -> tuple[int, ...]:
    """A version, to be compared; one that is not made of numbers is older than all."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def since(version: str, what: str) -> pytest.MarkDecorator:
    """Mark a test, or one case of it, that applies from this version of ComfyUI on, with what came then."""
    return pytest.mark.since(version, what)


class Comfy:
    """A server to be asked, be it real or not."""

    def __init__(self, url: str, http: aiohttp.ClientSession, version: str = "") -> None:
        self.url = url
        self.http = http
        self.version = version
        """As the server tells it; "" where it does not."""

    @classmethod
    async def met(cls, url: str, http: aiohttp.ClientSession) -> Comfy:
        """The server at an address, with the version that it tells."""
        met = cls(url, http)
        met.version = str((await met.get("/system_stats"))["system"].get("comfyui_version") or "")
        return met

    def has(self, first: str) -> bool:
        """The server is of this version or a newer one."""
        return _numbers(first) <= _numbers(self.version)

    async def get(self, path: str, **params: str | int) -> Any:
        """The JSON under a path."""
        async with self.http.get(self.url + path, params=params) as response:
            return await response.json()

    async def status_of(self, path: str, **params: str) -> int:
        """The status of a GET."""
        async with self.http.get(self.url + path, params=params) as response:
            return response.status

    async def post(self, path: str, body: Any) -> tuple[int, Any]:
        """Status and body (JSON if it is some) of a POST."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.http.post(self.url + path, data=data) as response:
            text = await response.text()
            return response.status, json.loads(text) if text.startswith(("{", "[")) else text

    async def submit(self, graph: Graph, **more: Any) -> str:
        """Post a prompt that must be accepted; its id."""
        status, body = await self.post("/prompt", {"prompt": graph, **more})
        assert status == 200, body
        return str(body["prompt_id"])

    async def entry(self, prompt_id: str) -> Any:
        """The history entry of a prompt; waits until there is one."""
        async with asyncio.timeout(PATIENCE):
            while True:
                found = await self.get(f"/history/{prompt_id}")
                if prompt_id in found:
                    return found[prompt_id]
                await asyncio.sleep(0.02)

    async def images(self, prompt_id: str, node: str) -> list[dict[str, str]]:
        """The files that a node of a finished prompt has saved."""
        images: list[dict[str, str]] = (await self.entry(prompt_id))["outputs"][node]["images"]
        return images

    async def view(self, image: dict[str, str]) -> bytes:
        """The bytes of a saved image."""
        async with self.http.get(self.url + "/view", params=image) as response:
            assert response.status == 200
            return await response.read()

    @asynccontextmanager
    async def ear(self, client_id: str | None = None, first: str | None = None) -> AsyncIterator[Ear]:
        """A socket that has had its first status frame. `first` is sent as soon as it is open."""
        client_id = client_id or uuid.uuid4().hex
        address = self.url.replace("http", "ws", 1) + f"/ws?clientId={client_id}"
        async with connect(address, max_size=None, close_timeout=1) as connection:
            if first is not None:
                await connection.send(first)
            ear = Ear(connection, client_id)
            listening = asyncio.create_task(ear.listen())
            try:
                await ear.until(lambda frame: frame["type"] == "status")
                yield ear
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
