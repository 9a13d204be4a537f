"""What people look at: status, results, costs, statistics. Writes nothing."""
