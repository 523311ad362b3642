"""HTTP transfers: one request and its response, as the bytes that came and as they are read."""
