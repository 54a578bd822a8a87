"""python -m reggen. Any Python reads this, to say that it is too old, or not the one that reggen is installed in.

Python 2 too: there is nothing here that it cannot parse, so types stand in comments and texts are put together by %.
"""

import os
import signal
import sys

OLDEST = (3, 11)  # as in pyproject.toml
UNUSABLE = 2


def main():
    # type: () -> None
    """Run the command line. A signal that asks to end while Python still loads it ends it quietly, too."""
    if sys.version_info < OLDEST:
        needed, here = ".".join(map(str, OLDEST)), ".".join(map(str, sys.version_info[:3]))
        _leave("it needs Python %s or newer; %s is %s. %s" % (needed, sys.executable, here, _anew("python" + needed)))
    if not __package__:  # python reggen: the folder itself is where modules are looked for, and not the one above it
        sys.path[0] = _home()
    for name in ("SIGINT", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _before_it_began)
    try:
        from reggen.cli import main as command  # noqa: PLC0415 - the longest part of the start

        command()
    except ImportError as error:
        if not error.name or error.name.split(".")[0] == "reggen":
            raise
        _leave("%s lacks what reggen needs: %s. %s" % (sys.executable, error, _elsewhere()))


def _before_it_began(*_):
    # type: (*object) -> None
    os._exit(130)  # an exception can be lost inside an import, and there is nothing yet to be put in order


def _leave(why):
    # type: (str) -> None
    sys.stderr.write("reggen: %s\n" % why)
    sys.exit(UNUSABLE)


def _elsewhere():
    # type: () -> str
    """Where reggen is installed, if that can be seen from here; else how it gets there."""
    python = _python(os.path.join(_home(), ".venv"))  # noqa: PTH118 - here and below: nothing that takes long to load
    if os.path.exists(python) and os.path.abspath(python) != os.path.abspath(sys.executable):  # noqa: PTH100, PTH110
        return "Run it in its own environment: %s -m reggen" % python
    return _anew(sys.executable or "python3")


def _anew(python):
    # type: (str) -> str
    """The commands that make an environment with everything in it."""
    source = _home()
    what = '-e "%s"' % source if os.path.exists(os.path.join(source, "pyproject.toml")) else "reggen"  # noqa: PTH110, PTH118
    return "Make an environment for it: %s -m venv .venv && %s -m pip install %s" % (python, _python(".venv"), what)


def _home():
    # type: () -> str
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120


def _python(environment):
    # type: (str) -> str
    return os.path.join(environment, *(("Scripts", "python") if os.name == "nt" else ("bin", "python")))  # noqa: PTH118


if __name__ == "__main__":
    main()
