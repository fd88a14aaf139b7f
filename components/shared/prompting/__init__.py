"""The prompt, the answer, and the table that holds them."""
