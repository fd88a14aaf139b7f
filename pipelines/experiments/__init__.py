"""The experiments: questions answered by runs that differ in one thing."""
