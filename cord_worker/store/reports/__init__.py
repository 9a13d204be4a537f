"""Queries behind reports and exports: status, results, costs, statistics. They write nothing, except for `measurements`
and `multiplied_runs`, in databases that a measurement made for itself."""
