"""Leased work: what is due, claims, results, returned leases; and the workers that do the work."""
