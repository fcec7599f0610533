"""The index of resources, on SQLite."""
