"""Modality worklists (PS3.4 annex K): where they are kept, which ones match a query, how long they live (level 4)."""
