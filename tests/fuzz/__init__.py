"""Fuzzing: `python -m tests.fuzz TARGET`."""
