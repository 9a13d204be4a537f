"""What the coordinator reads and writes to decide: the rows of a problem's search, and decisions that failed."""
