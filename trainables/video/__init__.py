"""Models that look at images in the order of time."""
