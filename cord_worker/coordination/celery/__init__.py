"""Celery and kombu behind one wall: the application, the tasks, and what they need to outlive their broker."""
