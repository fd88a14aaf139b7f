"""Shared by the steps: configuration, artifacts, metrics, prompts, models, pages, logs."""
