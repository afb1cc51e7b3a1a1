"""How the service's database came to its present shape: one file for each change, never edited once released."""
