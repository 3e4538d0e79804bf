"""Neural collaborative filtering: model, training, evaluation and the input producer."""
