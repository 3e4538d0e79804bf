"""Ratings: download, formats, generation, preprocessing and cache."""
