"""Datasets that the command line brings: generated and imported."""
