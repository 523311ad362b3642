"""Reader of the user's own files: finding them, and pages out of every kind that is known."""
