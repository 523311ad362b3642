"""Batching engine: scheduler, sampling, detokenization, loading of a served folder."""
