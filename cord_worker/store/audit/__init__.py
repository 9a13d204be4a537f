"""Reads what was stored, for checking and recomputing it (`verify-db`, `replay`). Writes nothing."""
