"""One run: a text model, a session and the daemon's own tools, until it answers."""
