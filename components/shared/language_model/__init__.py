"""Loading, generating with and adapting causal language models."""
