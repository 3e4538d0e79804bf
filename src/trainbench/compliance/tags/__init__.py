"""The tags of v0.5 compliance logs, by name."""
