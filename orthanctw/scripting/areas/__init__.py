"""The functions of the module ``orthanc``, by what they are about. Each class takes the `Host`."""
