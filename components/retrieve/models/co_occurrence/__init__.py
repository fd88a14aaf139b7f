"""Recommenders by co-occurrence of items, without any training."""
