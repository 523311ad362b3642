"""Views behind commands: what a command prints, as one JSON object and for a terminal."""
