"""The start of `python -m reggen`, which says so when Python is too old, or has not the packages that reggen needs.

Any Python can read this file, Python 2 too: types are in comments, and texts are joined with %.
"""

import os
import signal
import sys

OLDEST = (3, 11)  # as in pyproject.toml
UNUSABLE = 2


def main():
    # type: () -> None
    """Run the command line. A signal that comes while Python still loads it ends the process without a traceback."""
    if sys.version_info < OLDEST:
        needed, here = ".".join(map(str, OLDEST)), ".".join(map(str, sys.version_info[:3]))
        _refuse(
            "it needs Python %s or newer; %s is %s. %s" % (needed, sys.executable, here, _install("python" + needed))
        )
    if not __package__:  # `python reggen`: Python looks for modules in this folder, and not in the one above it
        sys.path[0] = _home()
    for name in ("SIGINT", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _end_at_once)
    try:
        from reggen.cli import main as command  # noqa: PLC0415 - the longest part of the start

        command()
    except ImportError as error:
        if not error.name or error.name.split(".")[0] == "reggen":
            raise
        _refuse("%s lacks what reggen needs: %s. %s" % (sys.executable, error, _remedy()))


def _end_at_once(*_):
    # type: (*object) -> None
    os._exit(130)  # an exception can be lost inside an import, and there is nothing to clean up yet


def _refuse(why):
    # type: (str) -> None
    sys.stderr.write("reggen: %s\n" % why)
    sys.exit(UNUSABLE)


def _remedy():
    # type: () -> str
    """The command that runs reggen in its own environment, if there is one beside it; else those that make one."""
    python = _python(os.path.join(_home(), ".venv"))  # noqa: PTH118 - here and below: pathlib takes long to load
    if os.path.exists(python) and os.path.abspath(python) != os.path.abspath(sys.executable):  # noqa: PTH100, PTH110
        return "Run it in its own environment: %s -m reggen" % python
    return _install(sys.executable or "python3")


def _install(python):
    # type: (str) -> str
    """The commands that make an environment with everything that reggen needs."""
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
