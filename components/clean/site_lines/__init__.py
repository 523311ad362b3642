"""Site-line scorer: lines of a site's own frame, which recur over its pages."""
