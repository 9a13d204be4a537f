"""Queries behind reports and exports: status, results, costs, statistics. They write nothing, except for
`measurements.empty_tables`."""
