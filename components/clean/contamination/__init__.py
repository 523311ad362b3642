"""Contamination scorer: evaluation items that stand in a document, lightly edited ones too."""
