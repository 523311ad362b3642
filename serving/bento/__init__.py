"""The Bento: its service, its sources and pins, building and collection."""
