"""The process of `tuneyard serve`, and what stands beside it."""
