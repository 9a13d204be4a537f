"""Measurements for users: `cordctl bench`.

Every measurement is repeated (three rounds or more). Compared values are measured alternately within one run. Medians
are reported with their spread. Nothing here asserts a speed.
"""
