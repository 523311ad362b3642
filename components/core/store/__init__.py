"""Content-addressed store of artifacts: keys, working folders, shards, lineage, collection."""
