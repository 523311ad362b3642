"""Conversion of documents and wikitext to Markdown, in worker processes that can be killed."""
