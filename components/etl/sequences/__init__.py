"""Raw events to one sequence per user."""
