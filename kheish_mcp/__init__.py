"""Kheish as a Model Context Protocol server: one daemon that owns keys, routes and media."""

__version__ = "0.1.0"
