"""LoRA adapters beside their base: built into its graph, and found by name in a server."""
