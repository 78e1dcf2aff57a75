"""OpenAI, and the servers that speak its dialect."""
