"""Compares all models on the same users, writes one report, and applies the gate's rules to it."""
