"""Compares two bare answers: one file per family of types. `families` chooses one by the reference."""
