"""Sequences and candidates to chat prompts."""
