"""Crawls of a loopback site: what a kill costs."""
