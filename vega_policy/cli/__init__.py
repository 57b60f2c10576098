"""The wiring room: command lines that bring environments, policies and the harness together."""
