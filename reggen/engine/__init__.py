"""A run: its parts wired together, attempts made and their consequences drawn. The only task groups."""
