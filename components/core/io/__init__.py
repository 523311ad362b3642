"""Files that several processes share: atomic writes and advisory locks."""
