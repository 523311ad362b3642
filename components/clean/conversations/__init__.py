"""Conversations from users' files: read in the formats of the field, cleaned as pages are."""
