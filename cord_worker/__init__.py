"""CoRD synthesis service: collaborative step-wise multi-teacher decoding as a queue-based batch service."""

from __future__ import annotations

__version__ = "0.1.0"
