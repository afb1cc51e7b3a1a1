"""A whole sweep in one thread: the real driver, ledger and tracker over a simulated machine that breaks on command."""
