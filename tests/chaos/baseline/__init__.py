"""The same faults done to plain Ray Tune with its MLflow callback, for a comparison that is measured."""
