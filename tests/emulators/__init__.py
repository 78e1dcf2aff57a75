"""Strict stand-ins for providers, on 127.0.0.1, written from measured facts and never from the drivers."""
