"""Datasets out: finished trajectories as files to train on."""
