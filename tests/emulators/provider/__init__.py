"""A strict OpenRouter, one file an endpoint family."""
