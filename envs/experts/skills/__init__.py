"""What the expert can do; each skill acts from the current state, plus what it remembers of its own plan."""
