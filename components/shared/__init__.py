"""What more than one step uses: configuration, outputs, metrics, prompts, models."""
