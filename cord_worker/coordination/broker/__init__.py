"""Everything that touches kombu: robust transports, safe reading of messages, and checks of the broker."""
