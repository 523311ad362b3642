"""Web situations of public bug reports, read by the crawl and by other clients."""
