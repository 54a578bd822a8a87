"""The plan: each slot's prompt, size and seed, computed and never stored. Pure."""
