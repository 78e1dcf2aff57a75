"""The tests; `python -m tests` runs the single check."""
