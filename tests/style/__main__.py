"""Figures of the code, and its limits:

    python -m tests.style            print the figures of reggen/ and tests/
    python -m tests.style --check    name what breaks a limit in reggen/; exit code 1 if anything does
    python -m tests.style --draw     write the list of modules in docs/design.md and the commands in docs/cli.md

An exception carries its reason on a line of its signature, after the limit's word: `# long: one table` (lines),
`wide` (parameters), `deep` (nesting), `methods`, `twin` (a class name in two modules); a module's own (`long`) stands
under its docstring.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.style.command_page import draw_commands
from tests.style.drawing import draw
from tests.style.figures import ROOT, read, table
from tests.style.limits import breaches


def main(words: Sequence[str] | None = None) -> int:
    """Print figures or breaches; 1 if a limit is broken under --check."""
    parser = argparse.ArgumentParser(prog="python -m tests.style", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="exit 1 where a limit is broken without a reason beside it"
    )
    parser.add_argument("--draw", action="store_true", help="write the lists in docs/design.md and docs/cli.md")
    parser.add_argument("folders", nargs="*", type=Path, help="default: reggen and tests, for --check reggen alone")
    options = parser.parse_args(words)
    folders = [folder.resolve() for folder in options.folders]
    if options.draw:
        design, page = ROOT / "docs" / "design.md", ROOT / "docs" / "cli.md"
        design.write_text(draw(design.read_text(encoding="utf-8"), ROOT / "reggen"), encoding="utf-8")
        page.write_text(draw_commands(page.read_text(encoding="utf-8")), encoding="utf-8")
        return 0
    if options.check:
        found = [breach for folder in folders or [ROOT / "reggen"] for breach in breaches(read(folder))]
        for breach in found:
            print(breach)
        return 1 if found else 0
    print("\n\n".join(map(table, folders or [ROOT / "reggen", ROOT / "tests"])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
