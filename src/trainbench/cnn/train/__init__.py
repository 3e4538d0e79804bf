"""Training and evaluating one network: step, loop, optimizers, precision, checkpoints."""
