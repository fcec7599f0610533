"""Modification and anonymisation of objects (PS3.15 annex E)."""
