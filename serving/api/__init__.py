"""OpenAI-compatible HTTP API: schema, authentication, limits, responses, errors."""
