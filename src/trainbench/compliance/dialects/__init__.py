"""Later spellings of compliance lines."""
