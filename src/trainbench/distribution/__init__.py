"""Several processes that train one model, whatever they train."""
