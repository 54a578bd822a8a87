"""The ComfyUI stand-in: a server that paints marked pictures, for rehearsals and for tests.

It speaks ComfyUI's protocol as measured, in the versions of several years, and makes things go wrong
on request. It shares no code with the client that is tested against it.

    async with serve(Settings(seconds=0.1)) as sim:
        print(sim.url)
"""

from reggen.sim.faults.script import Fault, Script, ScriptError
from reggen.sim.http.connections import Request
from reggen.sim.http.server import run_forever, serve
from reggen.sim.machine import Sim
from reggen.sim.painting.paint import Mark, paint, read_mark
from reggen.sim.settings import Settings

__all__ = [
    "Fault",
    "Mark",
    "Request",
    "Script",
    "ScriptError",
    "Settings",
    "Sim",
    "paint",
    "read_mark",
    "run_forever",
    "serve",
]
