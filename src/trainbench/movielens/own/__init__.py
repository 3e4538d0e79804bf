"""Somebody's own ratings: a CSV, TSV or Parquet file becomes a dataset like any other."""
