"""Stage that gates the corpus with a Great Expectations suite."""
