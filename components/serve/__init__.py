"""What answers requests: retrieval, prompt and language model in one."""
