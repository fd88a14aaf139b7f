"""Step `run_end`: the exit handler, which reports how a run ended, whether it failed or not."""
