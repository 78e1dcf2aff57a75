"""The MCP hosts that are known, and how an entry gets into their files."""
