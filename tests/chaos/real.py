"""The real server: started, signalled and asked; and a record of the prompts that it executed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp

_READY = 180.0  # seconds for the server to start
_GLANCE = 0.2  # seconds between polls of the server's history


class RealComfy:
    """The real server, in a process group of its own."""

    def __init__(self, url: str, command: str, log: Path, folder: Path | None = None, launch: str = "") -> None:
        self.url, self._command, self._log = url, shlex.split(command), log
        self.folder = folder
        """The folder with its `main.py`, where the command line names it."""
        self.launch = launch
        """Keys of the server's table with which reggen starts it, as TOML."""
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, unless it runs, and wait until it answers."""
        if self._process is not None and self._process.returncode is None:
            return
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        async with asyncio.timeout(_READY):
            while await self.ask("/queue") is None:
                if self._process.returncode is not None:
                    sys.exit(f"the server ended: {self._log.read_text(encoding='utf-8', errors='replace')[-2000:]}")
                await asyncio.sleep(_GLANCE)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the whole group."""
        if self._process is not None and self._process.returncode is None:
            os.killpg(self._process.pid, number)

    async def end(self, number: signal.Signals) -> None:
        """End it by a signal, and wait until it is gone."""
        self.send(number)
        if self._process is not None:
            async with asyncio.timeout(60):
                await self._process.wait()

    async def ask(self, path: str) -> Any:
        """The JSON at a path; None if there is no answer within two seconds."""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, ValueError):
            timeout = aiohttp.ClientTimeout(total=2.0)
            async with aiohttp.ClientSession(self.url, timeout=timeout) as session, session.get(path) as answer:
                return await answer.json()
        return None


class Watcher:
    """The prompts that the server executed, polled so often that a restart loses next to none."""

    def __init__(self, comfy: RealComfy) -> None:
        self._comfy = comfy
        self._before: set[str] | None = None
        self.executed: dict[str, str] = {}

    async def watch(self) -> None:
        """Poll until cancelled."""
        while True:
            await self.poll()
            await asyncio.sleep(_GLANCE)

    async def poll(self) -> None:
        """Note the prompts that have ended since the first poll."""
        found = await self._comfy.ask("/history?max_items=100")
        if found is None:
            return
        if self._before is None:
            self._before = set(found)
        for prompt_id in set(found) - self._before:
            self.executed[prompt_id] = found[prompt_id]["status"]["status_str"]
