"""The DICOM upper layer (PS3.8): PDUs, the state table, and a Twisted protocol for both roles."""
