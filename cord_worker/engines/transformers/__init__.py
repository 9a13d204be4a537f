"""Hosting a model with transformers: any number of requests at once, computed in one thread."""
