"""Smaller models that answer almost as well: distilled, pruned, quantised, or all three in one config."""
