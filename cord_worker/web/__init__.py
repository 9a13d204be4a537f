"""Runs in the browser, in three sizes: a server over the database, a folder of files, one file."""
