"""What may happen to a sweep of a service, and who gets which place on the cluster: pure decisions over records."""
