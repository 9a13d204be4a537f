"""The worker of a model: leasing work, having the engine do it, writing the results."""
