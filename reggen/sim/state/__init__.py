"""The stand-in's state: queue, history, cache, disk, and the execution of graphs."""
