"""Models that listen."""
