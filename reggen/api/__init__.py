"""The functions of the public API, by subject; `reggen` itself names them all. The command line calls nothing else."""
