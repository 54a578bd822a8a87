"""The stand-in's pictures."""
