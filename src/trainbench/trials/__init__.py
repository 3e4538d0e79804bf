"""A set of trials, whatever they train: paths, lock, processes, status, clock."""
