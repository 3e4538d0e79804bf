"""The MLPerf lines of a run of the CNN benchmark."""
