"""What the commands do, without a terminal: open the database, enqueue, supervise a run, check a machine."""
