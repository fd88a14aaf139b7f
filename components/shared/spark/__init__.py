"""Spark sessions, their Java, and tables as part files."""
