"""PostgreSQL, the truth: typed models and every query. Nobody else writes SQL."""
