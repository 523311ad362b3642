"""WARC archives: our own shards, and readers for damaged and third-party files."""
