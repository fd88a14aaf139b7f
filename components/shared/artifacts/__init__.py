"""Atomic outputs, checkpoints, fingerprints, storage."""
