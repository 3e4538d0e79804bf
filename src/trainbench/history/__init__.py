"""Runs beside runs: what is stored, how it changed over time, and the gate that compares two."""
