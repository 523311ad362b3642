"""Duplicate scorer: exact groups and near duplicates over the corpus, and the rule on copies."""
