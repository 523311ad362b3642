"""OpenAI's responses interface, as far as it is served: one answer, without a store."""
