"""A job and everything it refers to, read once before a run. Blocking."""
