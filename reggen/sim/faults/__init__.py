"""Faults: what a script may order, and how each changes an answer or an execution."""
