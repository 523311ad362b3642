"""Shingles, MinHash, winnowed passages and exact search for verbatim copies."""
