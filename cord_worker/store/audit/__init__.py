"""Reading what was stored, to be computed again and compared: `cordctl verify-db` and `cordctl replay`. Writes nothing."""
