"""Compares every model on the same users, writes one report, and decides by stated rules."""
