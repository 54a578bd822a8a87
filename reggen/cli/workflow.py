"""The command about a workflow file: how reggen reads it, and its API format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import reggen

_FILE = typer.Argument(metavar="FILE", help="JSON or an image, in API format or as ComfyUI's page saves it.")


def workflow(
    file: Annotated[Path, _FILE],
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="ComfyUI that knows the nodes of a page's workflow.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option(metavar="OUT.json", help="New file for the workflow in API format.")
    ] = None,
) -> None:
    """Show how a workflow is read: what is set, asked and sent.

    Exit codes: 0 nothing is open, 1 there are questions, 2 it cannot be read.
    """
    found = reggen.read_workflow(file, server)
    print(found)
    if to:
        found.write(to)
        print(f"written in API format: {to}")
    raise typer.Exit(found.exit_code)
