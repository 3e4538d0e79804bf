"""The rules of a compliance log, as data, and what strict rules look at."""
