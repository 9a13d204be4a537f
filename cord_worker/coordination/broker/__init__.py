"""Kombu behind one wall: transports that bear any state of the broker, messages read with care, and what suits."""
