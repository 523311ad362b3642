"""From a row of a file to one conversation: formats, messages in one form, order of turns."""
