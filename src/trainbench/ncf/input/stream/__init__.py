"""From a seed to the bytes of evaluation candidates and epochs, in both stream formats."""
