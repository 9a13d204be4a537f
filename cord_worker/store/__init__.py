"""PostgreSQL, the truth: typed models and every query. No other room contains SQL."""
