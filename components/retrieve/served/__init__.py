"""What a retriever needs at request time, as one folder without the training data."""
