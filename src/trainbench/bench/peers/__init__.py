"""Other frameworks beside this project, each in a process of its own, measured in turn."""
