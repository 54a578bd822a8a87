"""One image file: decoded, checked, hashed, compared, written. Blocking."""
