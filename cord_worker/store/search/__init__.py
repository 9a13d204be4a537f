"""What a coordinator reads and writes when it takes decisions: the rows of a search, and failed decisions."""
