"""What Python scripts decide and are told of, over the interfaces of the server (level 4: domain)."""
