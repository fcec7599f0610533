"""DICOM: header scanner, tags, JSON forms, pixels, upper layer."""
