"""Queries for people: status, results, costs, statistics. They write nothing."""
