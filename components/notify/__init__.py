"""Tell a webhook how a run ended."""
