"""The step with its layers in TensorFlow's graph, and how the fastest form is chosen."""
