"""Step `grpo`: Group Relative Policy Optimization of the SFT model against the composite reward."""
