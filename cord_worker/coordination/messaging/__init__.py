"""Sending messages: to which queue, and what happens while the broker is away."""
