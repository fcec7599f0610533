"""Outgoing DICOM operations."""
