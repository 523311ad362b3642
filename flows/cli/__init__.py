"""What a user types, a module for each thing commands are about."""
