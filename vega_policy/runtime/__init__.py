"""Running a trained policy: in the harness, behind a server, on an arm."""
