"""Comparing two bare answers: one file a family of types. `same_answer` chooses the family by the reference."""
