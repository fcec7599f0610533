"""Modality and VOI look-up tables, and colours of partial range, in the pictures that the server makes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut
from pydicom.sequence import Sequence

from test.pixel_samples import coloured, image
from test.test_rest_images import ImageCase, ramp

_RAMP = np.arange(256, dtype="u1").reshape(16, 16)
_WIDE = np.arange(65536, dtype="<u2").reshape(256, 256)
#: One instance is stored again and again.
_SETTINGS = {"OverwriteInstances": True}


def table(descriptor: list[int], entries: Any, *, signed: bool = False, vr: str = "US") -> Sequence:
    """A look-up table sequence; its data may also be VR OW."""
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if signed else "US", descriptor)
    words = np.asarray(entries, "<u2")
    item.add_new("LUTData", vr, words.tobytes() if vr == "OW" else words.tolist())
    return Sequence([item])


def windowed(values: Any, center: float, width: float) -> Any:
    """Values as they are seen through a window."""
    return np.clip((np.asarray(values, float) - (center - width / 2)) * 255 / width, 0, 255).astype("u1")


class ModalityTableTests(ImageCase):
    """The modality look-up table stands before the window (PS3.3 section C.11.1)."""

    SETTINGS = _SETTINGS

    async def rendered(self, data: bytes) -> Any:
        return await self.shown(f"{await self.store(data)}/rendered")

    async def test_before_the_window(self) -> None:
        """Stored values become what the table says, as pydicom reads it, and that goes through the window."""
        entries = (np.arange(256) * 7 + 11) % 1000
        for vr in ("US", "OW"):
            data = ramp(ModalityLUTSequence=table([256, 0, 16], entries, vr=vr), WindowCenter="500", WindowWidth="800")
            modality = apply_modality_lut(_RAMP, pydicom.dcmread(io.BytesIO(data)))
            np.testing.assert_array_equal(modality, entries[_RAMP])
            np.testing.assert_array_equal(await self.rendered(data), windowed(modality, 500, 800))

    async def test_without_window(self) -> None:
        """Without a window all values that the entries of the table may have are shown."""
        entries = np.arange(256) * 16
        data = ramp(ModalityLUTSequence=table([256, 0, 12], entries))
        np.testing.assert_array_equal(await self.rendered(data), windowed(entries[_RAMP], 2048, 4096))

    async def test_before_the_voi_table(self) -> None:
        """Entries of the modality table are what the VOI table maps."""
        data = ramp(
            ModalityLUTSequence=table([256, 0, 16], np.arange(256)[::-1] + 1000),
            VOILUTSequence=table([256, 1000, 8], np.arange(256)),
        )
        np.testing.assert_array_equal(await self.rendered(data), 255 - _RAMP)

    async def test_beside_rescaling(self) -> None:
        """It wins over slope and intercept; arrays know these alone, and previews and cut values neither."""
        data = ramp(
            ModalityLUTSequence=table([256, 0, 8], np.arange(256)[::-1]),
            RescaleSlope="2",
            RescaleIntercept="-3",
            WindowCenter="127.5",
            WindowWidth="255",
        )
        instance = await self.store(data)
        np.testing.assert_array_equal(await self.shown(f"{instance}/rendered"), 255 - _RAMP)
        for name in ("preview", "image-uint8"):
            np.testing.assert_array_equal(await self.shown(f"{instance}/{name}"), _RAMP)
        answer = await self.client.get(f"{instance}/frames/0/numpy?rescale=true")
        np.testing.assert_array_equal(np.load(io.BytesIO(answer.body))[..., 0], _RAMP * 2.0 - 3)

    async def test_beyond_the_ends(self) -> None:
        """Values beyond the ends of the table take the entry at that end; the first value may have a sign."""
        values = np.array([[-32768, -101, -100], [-99, 27, 32767]], "<i2")
        expected = np.array([[0, 0, 0], [1, 127, 127]])
        window = {"WindowCenter": "127.5", "WindowWidth": "255"}
        for first, signed in ((-100, True), (65536 - 100, False)):
            lut = table([128, first, 16], np.arange(128), signed=signed)
            shown = await self.rendered(ramp(values=values, ModalityLUTSequence=lut, **window))
            np.testing.assert_array_equal(shown, expected)

    async def test_too_short(self) -> None:
        """Of a table that has fewer entries than its descriptor tells, the last one stands for those missing."""
        data = ramp(ModalityLUTSequence=table([256, 0, 16], np.arange(100)), WindowCenter="127.5", WindowWidth="255")
        np.testing.assert_array_equal(await self.rendered(data), np.minimum(_RAMP, 99))

    async def test_numbers_of_entries(self) -> None:
        """No entries mean 65536, and numbers over 32767 may be written with a sign."""
        window = {"WindowCenter": "32767.5", "WindowWidth": "65535"}
        for descriptor, signed, count in (([0, 0, 16], False, 65536), ([40000, 0, 16], True, 40000)):
            lut = table(descriptor, np.arange(65536)[::-1], signed=signed, vr="OW")
            shown = await self.rendered(ramp(values=_WIDE, ModalityLUTSequence=lut, **window))
            np.testing.assert_array_equal(shown, windowed(65535 - np.minimum(_WIDE, count - 1), 32767.5, 65535))

    async def test_damaged(self) -> None:
        """An empty table cannot be shown; bits that are nonsense are 16."""
        lut = table([256, 0, 0], np.arange(256) * 257)
        np.testing.assert_array_equal(
            await self.rendered(ramp(ModalityLUTSequence=lut)), windowed(_RAMP * 257.0, 32768, 65536)
        )
        empty = await self.store(ramp(ModalityLUTSequence=table([256, 0, 16], [], vr="OW")))
        self.assertEqual(await self.status(f"{empty}/rendered"), 415)
        self.assertEqual(await self.status(f"{empty}/preview"), 200)


class PartialColourTests(ImageCase):
    """YBR_PARTIAL_422: black is 16 and white is 235, colours are 16 to 240 (PS3.3 section C.7.6.3.1.2)."""

    SETTINGS = _SETTINGS
    #: Black, white; red, green and blue of full strength; grey that is below black.
    YBR = ((16, 128, 128), (235, 128, 128), (81, 90, 240), (145, 54, 34), (41, 240, 110), (2, 128, 128))
    RGB = ((0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0))

    async def test_subsampled(self) -> None:
        """Two pixels share their colour; every frame is found."""
        format_ = coloured(3, 4, photometric_interpretation="YBR_PARTIAL_422", number_of_frames=2)
        pairs = np.array([(y, y, cb, cr) for y, cb, cr in self.YBR], "u1")
        expected = np.array(self.RGB, int).repeat(2, 0).reshape(3, 4, 3)
        instance = await self.store(image(format_, pairs.tobytes() + pairs[::-1].tobytes()))
        for number, colours in enumerate((expected, expected.reshape(12, 3)[::-1].reshape(3, 4, 3))):
            path = f"{instance}/frames/{number}"
            self.assertLessEqual(np.abs(await self.shown(f"{path}/preview") - colours).max(), 2)
            raw = (await self.client.get(f"{path}/raw")).body
            self.assertEqual(raw, (pairs[::-1] if number else pairs).tobytes())

    async def test_not_subsampled(self) -> None:
        """A file that has all samples is taken as it is, of either name."""
        for name in ("YBR_PARTIAL_422", "YBR_PARTIAL_420"):
            data = image(coloured(2, 3, photometric_interpretation=name), np.array(self.YBR, "u1").tobytes())
            shown = await self.shown(f"{await self.store(data)}/preview")
            self.assertLessEqual(np.abs(shown - np.array(self.RGB, int).reshape(2, 3, 3)).max(), 2)

    async def test_fewer_samples_of_420(self) -> None:
        """How fewer samples of YBR_PARTIAL_420 lie without compression is not defined."""
        data = image(coloured(2, 4, photometric_interpretation="YBR_PARTIAL_420"), bytes(12))
        self.assertEqual(await self.status(f"{await self.store(data)}/preview"), 415)
