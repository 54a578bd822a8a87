"""Benchmarks: they print numbers as JSON and never assert on time. ``python -m tests.bench --help``."""
