"""Several runs of the CNN benchmark: repeated, swept, searched and compared."""
