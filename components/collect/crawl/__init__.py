"""Polite, repeatable web crawl: frontier, rate limits, robots rules, ledger, replay."""
