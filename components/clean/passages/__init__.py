"""Passage scorer: parts of a document that stand in an older one (rule: ``duplicates/rule.py``)."""
