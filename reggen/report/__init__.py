"""Everything that a run says to people and to programs: lines, display, summaries, notices, trainer settings."""
