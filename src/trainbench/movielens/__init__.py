"""Ratings: download, formats, generation, preprocessing, cache and negative sampling."""
