"""The evaluation report for people."""
