"""Forecasts where trials would end, from every epoch of every trial: what `bayes` and `adaptive` decide by."""
