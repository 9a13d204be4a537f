"""The processes and their tasks. PostgreSQL holds the truth; a message carries only ids and may be lost or doubled."""
