"""What the expert can do; each skill acts from the current state and its own plan."""
