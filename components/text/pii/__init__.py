"""Detection and redaction of personal data and secrets."""
