"""Decisions of a run: which server gets which order, what a failure means, when to stop. Pure."""
