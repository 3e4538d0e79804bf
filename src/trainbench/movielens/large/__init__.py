"""Data sets larger than memory: pairs in shards, fractal expansions, splits made on disk."""
