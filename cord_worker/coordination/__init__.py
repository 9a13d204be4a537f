"""The tasks and what they do. PostgreSQL is the truth; a message carries ids only and may be lost or doubled."""
