"""Personal data and credentials: precision and recall by span."""
