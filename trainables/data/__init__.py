"""Data modules: a validation split for the search, folds, and a test split that the search never sees."""
