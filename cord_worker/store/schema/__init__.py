"""Definitions: tables, states, kinds of work, digests, the schema's version, roles. It contains few queries."""
