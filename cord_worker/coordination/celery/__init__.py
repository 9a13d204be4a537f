"""Everything that touches Celery: the application, its tasks, and what makes them survive an outage of the broker."""
