"""From rankings to each prompt's candidates."""
