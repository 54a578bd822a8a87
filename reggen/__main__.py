"""python -m reggen."""

import os
import signal


def main() -> None:
    """Run the command line. Ctrl-C while Python still loads it ends it quietly, too."""
    signal.signal(signal.SIGINT, _before_it_began)
    from reggen.cli import main as command  # noqa: PLC0415 - the longest part of the start

    command()


def _before_it_began(*_: object) -> None:
    os._exit(130)  # an exception can be lost inside an import, and there is nothing yet to be put in order


if __name__ == "__main__":
    main()
