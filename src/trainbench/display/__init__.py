"""What people may see: no password, and no character that is not what it looks like."""
