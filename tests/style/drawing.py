"""The modules of the project as docs/design.md lists them, each with the first sentence of its docstring."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

HEADING = "## Modules\n"
_WIDTH = 36


def draw(design: str, root: Path) -> str:
    """The text of docs/design.md with the list of modules below its last heading brought up to date."""
    before, heading, _ = design.partition(HEADING)
    if not heading:
        raise ValueError(f"the document has no heading {HEADING.strip()!r}")
    return f"{before}{HEADING}\n" + "\n".join(_lines(root)) + "\n"


def _lines(root: Path) -> Iterator[str]:
    """Modules of the root first, then the packages, each below a line of its own."""
    yield from (_line(file.name, file) for file in sorted(root.glob("*.py")) if file.name != "__init__.py")
    for package in sorted(folder.parent for folder in root.rglob("__init__.py") if folder.parent != root):
        name = package.relative_to(root).as_posix()
        yield ""
        yield _line(f"{name}/", package / "__init__.py")
        modules = (file for file in sorted(package.glob("*.py")) if file.name != "__init__.py")
        yield from (_line(f"{name}/{file.name}", file) for file in modules)


def _line(name: str, file: Path) -> str:
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    sentence = re.split(r"(?<=[^.])\.(?: |$)", paragraph, maxsplit=1)[0]
    return f"    {name:<{_WIDTH}}{sentence.replace('``', '`')}".rstrip()
