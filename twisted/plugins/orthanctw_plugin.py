"""Makes ``twistd orthanc`` known. No work happens here: every twistd on the machine imports this file."""

from twisted.application.service import ServiceMaker

orthanc = ServiceMaker(
    "orthanc",
    "orthanctw.tap",
    "An Orthanc-compatible DICOM server",
    "orthanc",
)
