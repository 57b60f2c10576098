"""The report a person opens: one HTML file, no scripts, no network; films are linked from their folder."""
