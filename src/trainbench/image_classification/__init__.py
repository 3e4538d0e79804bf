"""Image classification as a workflow: download, convert, train to a target."""
