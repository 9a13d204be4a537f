"""Measurements that users keep: `cordctl bench`.

A measurement is repeated (three rounds or more), what is compared is measured in turns within one run, and medians with
their spread are reported. Nothing here asserts a speed.
"""
