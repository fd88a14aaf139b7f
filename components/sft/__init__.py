"""Step `sft`: supervised fine-tuning on the answers that the prompts table carries."""
