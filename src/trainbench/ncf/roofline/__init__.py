"""What the machine does at best, what a sample needs of it, and a trial's record of both."""
