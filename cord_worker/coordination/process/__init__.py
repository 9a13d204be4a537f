"""The life of a process: starting, registering, heartbeats, ending."""
