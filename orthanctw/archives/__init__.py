"""Archives of stored objects: what is in them, how it is named, and its bytes while they are read (level 4)."""
