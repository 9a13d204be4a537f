"""Reading what was stored, to compute it again and compare it (`verify-db`, `replay`). Writes nothing."""
