"""Sitemaps and feeds of sites: their parsing, and which of them a crawl reads."""
