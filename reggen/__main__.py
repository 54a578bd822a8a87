"""python -m reggen."""

import sys

try:
    from reggen.cli import main
except KeyboardInterrupt:  # asked to stop before it began
    sys.exit(130)

main()
