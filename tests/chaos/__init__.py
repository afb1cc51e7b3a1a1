"""Faults against real processes: what a sweep promises to survive, done to it on purpose, and one checker for all."""
