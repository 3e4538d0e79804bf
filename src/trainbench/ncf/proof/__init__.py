"""The proof of a trial's hits: its network and its ranking written a second time, from the papers.

Nothing here is shared with what trains and evaluates (``ncf/model.py``, ``ncf/evaluation/``,
``ncf/input``), and nothing needs TensorFlow.
"""
