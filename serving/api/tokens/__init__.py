"""Routes that give tokens, texts and vectors in place of answers."""
