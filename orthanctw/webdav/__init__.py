"""Stored objects as folders and files, and the folder of uploads (level 4)."""
