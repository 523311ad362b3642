"""Main text extraction from HTML, text and Markdown pages."""
