"""Main-text extraction: web pages, articles, manuals, code blocks and reported faults."""
