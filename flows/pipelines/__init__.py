"""The text pipeline, its standalone stages and its Prefect deployments."""
