"""TIGER: semantic ids and generative retrieval."""
