"""MLPerf v0.5 logs: write, parse, stitch, check, score. Imports neither TensorFlow nor Docker."""
