"""Samples that are changed a little, so that few of them teach as much as many."""
