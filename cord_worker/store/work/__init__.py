"""Leased work: what is due, claiming it, writing its results, returning it; and the workers that do it."""
