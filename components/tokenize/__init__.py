"""Stages that train the tokenizer, pack tokens and make instructions from pages."""
