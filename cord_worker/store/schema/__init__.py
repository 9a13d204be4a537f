"""What the tables are: columns, states, kinds of work, digests, versions, roles. It contains almost no queries."""
