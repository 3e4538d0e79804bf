"""Images for the CNN benchmark: data sets, decoding and batches."""
