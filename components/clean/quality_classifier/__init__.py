"""Quality classifier: probability of a label that the user's examples teach (good, toxic)."""
