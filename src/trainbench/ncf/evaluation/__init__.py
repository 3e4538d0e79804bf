"""Evaluation: the rank of every user's held-out item, on one device and on several."""
