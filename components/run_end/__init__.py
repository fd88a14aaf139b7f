"""Step `run_end`: the exit handler; says how a run ended, whatever happened before."""
