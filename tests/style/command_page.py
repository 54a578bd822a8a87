"""The commands as docs/cli.md lists them: help, arguments and options, as typer knows them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer

from reggen.cli import app

HEADING = "## Commands\n"
BAR = "\\|"  # in a cell of a table


def draw_commands(page: str) -> str:
    """The text of docs/cli.md with everything below its heading of commands brought up to date."""
    before, heading, _ = page.partition(HEADING)
    if not heading:
        raise ValueError(f"the document has no heading {HEADING.strip()!r}")
    group: Any = typer.main.get_command(app)
    sections = ["\n".join(_section(name, command)) for name, command in group.commands.items()]
    return f"{before}{HEADING}\n" + "\n\n".join(sections) + "\n"


def _section(name: str, command: Any) -> Iterator[str]:
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    options = [param for param in command.params if param.param_type_name == "option"]
    words = " ".join(["reggen", name, *map(_argument, arguments), *(["[OPTIONS]"] if options else [])])
    yield f"### {name}\n\n    {words}\n"
    yield inspect.cleandoc(command.help)
    if command.params:
        yield "\n| | |\n| --- | --- |"
        rows = [(f"`{_argument(param)}`", param.help) for param in arguments]
        rows += [(_option(param), _meaning(param)) for param in options]
        yield from (f"| {words.replace('|', BAR)} | {meaning} |" for words, meaning in rows)


def _argument(param: Any) -> str:
    metavar = param.metavar or param.name.upper()
    return metavar if param.required else f"[{metavar} ...]"


def _option(param: Any) -> str:
    value = "" if param.is_flag else f" {param.metavar or param.type.name.upper()}"
    return ", ".join(f"`{text}{value}`" for text in (*param.opts, *param.secondary_opts))


def _meaning(param: Any) -> str:
    default = "" if param.is_flag or param.default in (None, ()) else f" Default: {param.default}."
    return f"{param.help}{default}"
