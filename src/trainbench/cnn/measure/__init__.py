"""What a run of the CNN benchmark leaves behind: results, profiles, traces, summaries."""
