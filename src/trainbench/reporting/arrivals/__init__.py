"""Logs as they arrive: found in folders and archives, put into sets, judged, on one page."""
