"""Pictures and numbers as the real Orthanc makes them of the same files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydicom.data import get_testdata_file
from twisted.trial.unittest import SynchronousTestCase

from orthanctw.dicom.pixels.syntaxes import JPEG_LS_NEAR_LOSSLESS
from scripts.compare_images import ask, differences
from test.pixel_samples import grey, image, wave
from test.servers import ORTHANC, ServerProcess
from test.test_transcode import transcoded

_FILES: Final = (
    # Without compression: signed, deflated, both orders of bytes, with unused bits, of 8 bits.
    *("CT_small.dcm", "MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm"),
    *("examples_overlay.dcm", "MR-SIEMENS-DICOM-WithOverlays.dcm", "vlut_04.dcm"),
    # Colours by pixel and by plane, palettes, odd sizes, frames.
    *("SC_rgb.dcm", "color-px.dcm", "color-pl.dcm", "SC_rgb_small_odd.dcm", "SC_rgb_2frame.dcm"),
    *("OBXXXX1A.dcm", "examples_palette.dcm", "emri_small.dcm", "emri_small_big_endian.dcm"),
    # Compressed without losses.
    *("MR_small_RLE.dcm", "SC_rgb_rle.dcm", "SC_rgb_rle_2frame.dcm", "OBXXXX1A_rle.dcm", "emri_small_RLE.dcm"),
    *("MR_small_jpeg_ls_lossless.dcm", "emri_small_jpeg_ls_lossless.dcm", "JPEG-LL.dcm", "SC_rgb_jpeg_gdcm.dcm"),
    # With losses: grey of 8 and 12 bits, colours with and without a transform, subsampled.
    *("JPGExtended.dcm", "JPEG-lossy.dcm"),
    *("SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_dcmtk_+eb+cr.dcm", "SC_rgb_dcmtk_+eb+cy+s4.dcm"),
)


def _objects() -> Iterator[tuple[str, bytes]]:
    for name in _FILES:
        path = get_testdata_file(name, download=False)
        assert isinstance(path, str), name
        yield name, Path(path).read_bytes()
    form = grey(96, 130, bits_allocated=16, bits_stored=12, high_bit=11, photometric_interpretation="MONOCHROME1")
    inverse = image(form, wave(form).tobytes())
    yield "MONOCHROME1", inverse
    near = transcoded(inverse, JPEG_LS_NEAR_LOSSLESS)
    assert near is not None
    yield "near-lossless", near


class OrthancImagesTest(SynchronousTestCase):
    """Both servers, and one file after the other."""

    def test_equal(self) -> None:
        """Values differ by 1 at most; after losses by 3 % of their range, and by less than 1 on average."""
        folder = Path(self.mktemp())
        servers = (ServerProcess(folder / "ours"), ServerProcess(folder / "theirs", ORTHANC, {"Plugins": []}))
        for server in servers:
            self.addCleanup(server.kill)
            server.start()
        ports = (servers[0].port, servers[1].port)
        for name, data in _objects():
            instance, same = (server.upload(data) for server in servers)
            self.assertEqual(instance, same)
            for port in ports:
                self.assertEqual(ask(port, "GET", f"/instances/{instance}/preview")[0], 200, name)
            self.assertEqual(differences(ports, instance), {}, name)
            # Several files are the same object in another form.
            for port in ports:
                ask(port, "DELETE", f"/instances/{instance}")
