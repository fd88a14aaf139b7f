"""One package per pipeline step, plus `shared` for what more than one step uses."""
