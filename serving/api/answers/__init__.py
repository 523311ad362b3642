"""Answers as they are shown: choices, their text, their log probabilities."""
