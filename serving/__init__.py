"""Serving: the OpenAI API, the batching engine, the gateway of an endpoint, the Bento."""
