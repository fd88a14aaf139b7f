"""A learnt blend of recommenders' scores, co-occurrence counts and item facts."""
