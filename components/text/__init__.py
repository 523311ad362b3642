"""Text primitives that stages share: words, Markdown, splits, chat, duplicates, personal data."""
