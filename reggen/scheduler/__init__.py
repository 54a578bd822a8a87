"""Decisions of a run: the server of each prompt, what a failure means, when to stop. Pure."""
