"""The DICOM edge: associations to calls of the domain."""
