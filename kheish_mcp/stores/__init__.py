"""What lasts: one store a file, each with its own crash story."""
