"""Models of things that are related: users and items, series and series."""
