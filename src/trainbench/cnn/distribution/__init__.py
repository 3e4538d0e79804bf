"""The CNN benchmark in several processes: who serves, who coordinates, who is there."""
