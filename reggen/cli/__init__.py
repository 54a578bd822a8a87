"""The command line: the commands as one program, with its errors as sentences and exit codes. It alone prints."""

from __future__ import annotations

import errno
import sys
from typing import Annotated

import typer

import reggen
from reggen.cli import inspect, report, review, run, servers, standin, workflow
from reggen.errors import STOPPED, STORAGE, ReggenError

_UNWRITTEN = {errno.ENOSPC, errno.EIO, getattr(errno, "EDQUOT", errno.ENOSPC)}  # of standard output, which has no name

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Regularization images for LoRA and DreamBooth, made overnight on ComfyUI servers.",
)


def main() -> None:
    """Entry point: errors become sentences and exit codes."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a console that cannot show a character must not end a night
    try:
        app(standalone_mode=True)
    except KeyboardInterrupt:
        sys.exit(STOPPED)
    except ReggenError as error:
        print(f"reggen: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.filename is not None or error.errno not in _UNWRITTEN:
            raise
        print(f"reggen: cannot write to standard output: {error.strerror or error}", file=sys.stderr)
        sys.exit(STORAGE)


def _version(asked: bool) -> None:
    if asked:
        print(f"reggen {reggen.__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


# in the order of --help
app.command()(run.run)
app.command()(inspect.plan)
app.command()(inspect.check)
app.command()(workflow.workflow)
app.command()(inspect.status)
app.command()(report.report)
app.command()(review.reject)
app.command()(review.redo)
app.command()(review.recaption)
app.command()(review.doctor)
app.command()(servers.models)
app.command()(servers.notify)
app.command()(inspect.config)
app.command()(inspect.schema)
app.command(name="sim")(standin.stand_in)
