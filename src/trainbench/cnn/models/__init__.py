"""The networks, as functional Keras models behind one registry."""
