"""Compares two bare answers: one file per family of types. `same_answer` chooses the family by the reference."""
