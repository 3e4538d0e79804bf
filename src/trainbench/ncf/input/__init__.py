"""The input of NCF's training: negatives, shuffle, epochs and the process that makes them."""
