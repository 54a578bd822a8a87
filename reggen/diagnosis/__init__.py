"""A regularization set examined as the trainer will read it. Blocking."""
