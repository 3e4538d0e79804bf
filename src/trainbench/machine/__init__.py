"""What the machine is, what it lacks, and its page cache."""
