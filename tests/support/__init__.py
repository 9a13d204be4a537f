"""What several tests share: processes, servers, fakes, configurations, and what is compared of the tables."""
