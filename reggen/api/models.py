"""The model files of a server: what a job can name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from reggen.api.from_sync import wait_for
from reggen.api.readable import Readable
from reggen.comfy.client import Client
from reggen.comfy.model_files import ModelFile, model_files
from reggen.engine.clients import connected
from reggen.job.loader import parse
from reggen.job.models import Limits
from reggen.job.servers import DEFAULT_URL, Server
from reggen.report.model_listing import format_models


@dataclass(frozen=True)
class ServerModels(Readable):
    """The model files of a server by the key of a job file that names them; ``loras`` have no key."""

    server: str
    files: dict[str, tuple[ModelFile, ...]]
    text: str


def models(server: str = DEFAULT_URL) -> ServerModels:
    """Ask a server for its checkpoints, models, text encoders, VAEs and LoRAs. Blocking. Raises ServerError."""
    return wait_for(partial(_models, _as_server(server)), interrupt=lambda: None)


def _as_server(url: str) -> Server:
    """An address as a job has it. Raises JobError."""
    tables = {"dataset": {"root": ".", "class": "x", "count": 1}, "sampling": {"checkpoint": "x"}}
    return parse({**tables, "prompts": {"positive": "x"}, "servers": [url]}, source="the command line").servers[0]


async def _models(server: Server) -> ServerModels:
    async with connected([server], Limits(), "the command line") as clients:
        files = await _files(clients)
    return ServerModels(server.name, files, format_models(server.name, files))


async def _files(clients: Sequence[Client]) -> dict[str, tuple[ModelFile, ...]]:
    return await model_files(clients[0])
