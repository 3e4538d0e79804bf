"""Benchmarks of the parts of this project: what each costs on this machine."""
