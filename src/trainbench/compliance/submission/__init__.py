"""The v0.5 submission folder: built and verified."""
