"""Gates, approvals and the crash-safe exchange of the champion, with its audit log."""
