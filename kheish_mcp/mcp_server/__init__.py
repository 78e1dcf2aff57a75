"""Our tools and assets in MCP's words, and nothing else."""
