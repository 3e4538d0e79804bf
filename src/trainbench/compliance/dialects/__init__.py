"""The spellings of compliance lines, by MLPerf version."""
