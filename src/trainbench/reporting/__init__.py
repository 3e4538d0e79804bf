"""The report of a run: a pure function of its directory. Imports neither TensorFlow nor Docker."""
