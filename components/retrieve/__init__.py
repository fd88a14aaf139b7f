"""Conventional recommenders: the candidates of every prompt, and the bar for the LLM."""
