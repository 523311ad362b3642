"""Components: stages as plain functions, and what they share."""
