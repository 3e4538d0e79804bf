"""Benchmarks of the benchmark: what each part costs on this machine."""
