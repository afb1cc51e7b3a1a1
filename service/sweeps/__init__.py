"""Sweeps as folders: made, found, handed to a backend, read."""
