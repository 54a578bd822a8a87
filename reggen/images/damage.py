"""What Pillow's decoders raise when a file is damaged, beside its own DecompressionBombError."""

from __future__ import annotations

import struct

DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, ArithmeticError, struct.error)
