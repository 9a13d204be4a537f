"""What the tables are: columns, states, kinds of work, digests, versions, roles. It knows no query of its own."""
