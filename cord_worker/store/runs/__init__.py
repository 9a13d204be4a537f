"""Runs and their problems: enqueuing, admitting, pausing, retrying, checking again, removing."""
