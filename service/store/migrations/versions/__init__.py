"""The changes, each of which names the one before it."""
