"""The rules of kohya's trainer as functions of plain data. Pure."""
