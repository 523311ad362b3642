"""Boilerplate scorer: share of a page that is menus and footers, by a fastText line classifier."""
