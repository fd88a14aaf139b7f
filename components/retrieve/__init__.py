"""Conventional recommenders: they find the candidates of every prompt and set the bar for the LLM."""
