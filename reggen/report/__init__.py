"""What a run says to people and to other programs: lines, the live display, the closing words, report.json."""
