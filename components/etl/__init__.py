"""The data room: raw logs in, sequences, catalogue and chat prompts out, under contracts."""
