"""What the log itself says beside the offline metrics."""
