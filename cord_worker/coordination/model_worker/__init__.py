"""The worker of a model: it leases work, calls the engine and writes the results."""
