"""Models of rows of numbers."""
