"""Public datasets turned into the three raw tables."""
