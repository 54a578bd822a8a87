"""Figures of the code itself: sizes, nesting, names, docstrings, rooms; and the limits they must keep."""
