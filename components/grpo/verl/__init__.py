"""The verl engine: GRPO on GPUs by verl's own entry point, with vLLM sampling, watched from outside."""
