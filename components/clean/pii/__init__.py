"""PII scorer: personal data and secrets as spans, and their redaction."""
