"""The ways in which a client reaches the daemon."""
