"""From an exported bundle to a served version: dataset, registry, promotion and dossier."""
