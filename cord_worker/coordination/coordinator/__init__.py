"""The coordinator's process: decisions, checks of answers, and the sweeper that finds lost work."""
