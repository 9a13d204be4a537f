"""What several tests share: processes, servers, fakes, configurations, and the comparison of tables."""
