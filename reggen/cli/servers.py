"""The commands about what a job leans on: models of a server, receivers of notices."""

from __future__ import annotations

import json
from typing import Annotated

import typer

import reggen
from reggen.cli.options import AsJson, JobFile, load

_URL = "http://127.0.0.1:8188"


def models(
    server: Annotated[str, typer.Option(metavar="URL", help="ComfyUI address.")] = _URL, as_json: AsJson = False
) -> None:
    """List the model files of a server, as a job names them."""
    found = reggen.models(server)
    if as_json:
        files = {key: [one._asdict() for one in listed] for key, listed in found.files.items()}
        print(json.dumps(files, indent=2, ensure_ascii=False))
    else:
        print(found)


def notify(job_file: JobFile) -> None:
    """Send a trial notice to each address in notify.urls.

    Exit codes: 0 every service took it, 1 one did not, 2 an address cannot be used.
    """
    tried = reggen.notify(load(job_file, None, None, None))
    print(tried)
    raise typer.Exit(tried.exit_code)
