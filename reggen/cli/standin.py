"""The ComfyUI stand-in as a server of its own: sim."""

from __future__ import annotations

import asyncio
import errno
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from reggen.cli.process_limits import allow_many_files
from reggen.errors import JobError, Problem

_PORTS = 65_536


def stand_in(  # wide: typer reads the options of a command from its parameters
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="Port of the first server.")] = 8188,
    servers: Annotated[
        int, typer.Option("--servers", min=1, max=4096, metavar="N", help="Number of servers, on consecutive ports.")
    ] = 1,
    seconds: Annotated[float, typer.Option(min=0, metavar="S", help="Seconds that an image takes.")] = 0.5,
    gap: Annotated[float, typer.Option(min=0, metavar="S", help="Seconds without work between two prompts.")] = 0.0,
    checkpoint: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A checkpoint that it has; repeat it for several.")
    ] = None,
    version: Annotated[str, typer.Option(metavar="VERSION", help="The version of ComfyUI it imitates.")] = "0.33.0",
    faults: Annotated[Path | None, typer.Option(metavar="FILE", help="A script of faults, in TOML or JSON.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse unknown nodes and names, as ComfyUI does.")] = False,
) -> None:
    """Serve a ComfyUI stand-in, for rehearsals and tests.

    It paints marked pictures, and fails as a script says.
    """
    from reggen import sim

    if port + servers > _PORTS:
        raise typer.BadParameter(f"{servers} servers from port {port} on go beyond the last port, {_PORTS - 1}")
    chosen: dict[str, Any] = {"seconds": seconds, "gap": gap, "version": version, "lenient": not (strict or checkpoint)}
    if checkpoint:
        chosen["checkpoints"] = tuple(checkpoint)
    allow_many_files()
    script = _script(faults)
    try:
        settings = sim.Settings(**chosen)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None

    def ready(urls: list[str]) -> None:
        more = f" ... {urls[-1]} ({len(urls)} servers)" if len(urls) > 1 else ""
        print(f"stand-in at {urls[0]}{more}; Ctrl-C ends it", flush=True)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    serving = sim.run_forever(settings, host=host, port=port, count=servers, script=script, on_ready=ready)
    try:
        asyncio.run(serving)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    except (OSError, ValueError) as error:
        print(f"reggen: the stand-in cannot start at {host}:{port}: {_why(error)}", file=sys.stderr)
        raise typer.Exit(2) from None


def _script(file: Path | None) -> Any:
    from reggen import sim
    from reggen.files import MIB, text_of

    if file is None:
        return sim.Script()
    try:
        text = text_of(file, MIB, encoding="utf-8", piped=True)
        return sim.Script.from_json(text) if file.suffix == ".json" else sim.Script.from_toml(text)
    except (OSError, ValueError) as error:
        raise JobError(str(file), (Problem("", f"it cannot be read as a fault script: {_why(error)}"),)) from None


def _why(error: OSError | ValueError) -> str:
    """The text of an error, without the system's own numbers."""
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return "something listens there already; end it, or name another port with --port"
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    return getattr(error, "strerror", None) or str(error)
