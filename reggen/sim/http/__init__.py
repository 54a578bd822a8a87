"""The stand-in's routes, answers and sockets."""
