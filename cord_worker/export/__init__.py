"""Exports datasets: finished trajectories as files for training."""
