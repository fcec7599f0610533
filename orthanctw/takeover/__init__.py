"""Taking over the index of an existing Orthanc; its files stay where they are."""
