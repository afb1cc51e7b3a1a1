"""The faults that plain Ray Tune can have, done to it and held against the same checker."""
