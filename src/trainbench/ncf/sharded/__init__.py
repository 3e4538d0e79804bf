"""Tables divided over replicas: row r lives at replica r mod n, and rows travel where needed."""
