"""MLPerf v0.5 logs: write, parse, stitch, check and score. Imports neither TensorFlow nor Docker."""
