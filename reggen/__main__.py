"""python -m reggen."""

import signal
import sys


def main() -> None:
    """Run the command line. Ctrl-C while Python still loads it ends it quietly, too."""
    signal.signal(signal.SIGINT, _before_it_began)
    from reggen.cli import main as command  # noqa: PLC0415 - the longest part of the start

    command()


def _before_it_began(*_: object) -> None:
    sys.exit(130)


if __name__ == "__main__":
    main()
