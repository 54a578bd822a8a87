"""python -m reggen."""

from reggen.cli import main

main()
