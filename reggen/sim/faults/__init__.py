"""What the stand-in does wrong, as a script says."""
