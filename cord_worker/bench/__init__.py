"""Measurements for users: `cordctl bench`.

Speeds are measured in three rounds or more. Values that are compared are measured in turn in every round. Reports have
the median and the spread of the rounds. No module here fails because something is slow.
"""
