"""The storage area: files named by UUIDs of ours."""
