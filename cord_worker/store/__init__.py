"""Everything stored in PostgreSQL: the tables and every query. No other package contains SQL."""
