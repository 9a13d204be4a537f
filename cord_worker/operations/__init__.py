"""What the commands do, without a terminal: opening the database, enqueuing, supervising a run, checking a machine."""
