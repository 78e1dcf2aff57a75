"""Clients of every age: the official Python client of years past, each in a virtual environment of its own."""
