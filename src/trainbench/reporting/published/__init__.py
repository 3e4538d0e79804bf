"""This run beside the published results of v0.5: its time, and how fast it converged."""
