"""The CNN benchmark in several processes: who lends devices, who drives them, who is there."""
