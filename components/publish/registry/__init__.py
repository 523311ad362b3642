"""The MLflow model registry: registration, reading, collection and deletion of versions."""
