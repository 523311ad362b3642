"""Single URLs and pages: HTTP, SSRF guard, charset, links, licences, metadata."""
