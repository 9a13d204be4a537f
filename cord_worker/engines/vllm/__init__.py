"""Hosting a model with vLLM."""
