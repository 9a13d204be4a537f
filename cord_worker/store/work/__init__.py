"""Leased work: finds what is due, claims it, writes results, returns leases. Also the workers that do the work."""
