"""Frames over REST: pictures in every type, numbers, bytes, and what cannot be shown."""

from __future__ import annotations

import gzip
import io
import json
from typing import Any

import numpy as np
import pydicom
import pydicom.data
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.sequence import Sequence

from test.rest_samples import NOBODY, RestCase, dicom_object, pixels

_RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def sample(name: str) -> bytes:
    """A file of pydicom's wheel."""
    path = pydicom.data.get_testdata_file(name, download=False)
    assert isinstance(path, str)
    with open(path, "rb") as file:
        return file.read()


def ramp(sop: str = "1.2.1.1.1", values: Any = _RAMP, **tags: object) -> bytes:
    """An image of 16 x 16 pixels with all values of 8 bits, or others of 16 bits."""
    image = pixels(*values.shape)
    if values.dtype.itemsize == 2:
        image |= {"BitsAllocated": 16, "BitsStored": 16, "HighBit": 15}
        image["PixelRepresentation"] = int(values.dtype.kind == "i")
    return dicom_object(sop=sop, **(image | {"PixelData": values.tobytes()} | tags))


def picture(body: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(body)))


class ImageCase(RestCase):
    """A server with one image after the other."""

    async def store(self, data: bytes) -> str:
        """Upload an object; the path of its instance."""
        answer = await self.client.post("/instances", data)
        return f"/instances/{json.loads(answer.body)['ID']}"

    async def shown(self, path: str, **headers: str) -> Any:
        """The picture at a path, as an array."""
        answer = await self.client.get(path, headers=headers)
        self.assertEqual(answer.status, 200, path)
        return picture(answer.body)

    async def status(self, path: str, **headers: str) -> int:
        answer = await self.client.get(path, headers=headers)
        self.assertEqual(answer.body if answer.status in (404, 415) else b"", b"", path)
        return answer.status


class PictureTest(ImageCase):
    """Previews, rendered frames and cut values."""

    async def test_preview_stretches(self) -> None:
        """The least value is black and the greatest white, whatever they are."""
        instance = await self.store(ramp(values=(_RAMP.astype("<i2") * 4 - 500)))
        self.assertLessEqual(np.abs((await self.shown(f"{instance}/preview")).astype(int) - _RAMP).max(), 1)

    async def test_monochrome1_is_inverted(self) -> None:
        """Of MONOCHROME1 the least value is white; values that are only cut stay as they are."""
        instance = await self.store(ramp(PhotometricInterpretation="MONOCHROME1"))
        np.testing.assert_array_equal(await self.shown(f"{instance}/preview"), 255 - _RAMP)
        np.testing.assert_array_equal(await self.shown(f"{instance}/image-uint8"), _RAMP)

    async def test_rendered_through_the_window(self) -> None:
        """Rescaled values below the window are black, above it white, between them in proportion."""
        values = _RAMP.astype("<i2")
        instance = await self.store(
            ramp(values=values, RescaleSlope="2", RescaleIntercept="-100", WindowCenter="100", WindowWidth="200")
        )
        expected = np.clip((values * 2.0 - 100) / 200 * 255, 0, 255).astype(np.uint8)
        np.testing.assert_array_equal(await self.shown(f"{instance}/rendered"), expected)
        other = np.clip((values * 2.0 - 100) / 50 * 255, 0, 255).astype(np.uint8)
        shown = await self.shown(f"{instance}/rendered?window-center=25&window-width=50")
        np.testing.assert_array_equal(shown, other)

    async def test_rendered_without_window(self) -> None:
        """Without a window all values of the stored bits are shown."""
        instance = await self.store(ramp(BitsStored=8))
        np.testing.assert_array_equal(await self.shown(f"{instance}/rendered"), (_RAMP * (255 / 256)).astype(np.uint8))

    async def test_window_of_functional_groups(self) -> None:
        """Windows and rescaling of a multi-frame object are those of its frames, else the shared ones."""
        groups = []
        for center in (50, 150):
            group = Dataset()
            group.FrameVOILUTSequence = Sequence([Dataset()])
            group.FrameVOILUTSequence[0].WindowCenter, group.FrameVOILUTSequence[0].WindowWidth = center, 100
            groups.append(group)
        shared = Dataset()
        shared.PixelValueTransformationSequence = Sequence([Dataset()])
        shared.PixelValueTransformationSequence[0].RescaleSlope = "1"
        shared.PixelValueTransformationSequence[0].RescaleIntercept = "0"
        instance = await self.store(
            ramp(
                NumberOfFrames="2",
                PixelData=_RAMP.tobytes() * 2,
                PerFrameFunctionalGroupsSequence=Sequence(groups),
                SharedFunctionalGroupsSequence=Sequence([shared]),
            )
        )
        for frame, low in ((0, 0), (1, 100)):
            expected = np.clip((_RAMP.astype(float) - low) / 100 * 255, 0, 255).astype(np.uint8)
            np.testing.assert_array_equal(await self.shown(f"{instance}/frames/{frame}/rendered"), expected)

    async def test_look_up_table(self) -> None:
        """Without a window, the first VOI look-up table is used."""
        table = Dataset()
        table.LUTDescriptor, table.LUTData = [256, 0, 16], [(255 - value) * 257 for value in range(256)]
        table["LUTDescriptor"].VR, table["LUTData"].VR = "US", "US"
        instance = await self.store(ramp(VOILUTSequence=Sequence([table])))
        np.testing.assert_array_equal(await self.shown(f"{instance}/rendered"), 255 - _RAMP)

    async def test_size(self) -> None:
        """A rendered frame fits into the box that is asked for, its aspect ratio kept."""
        instance = await self.store(ramp(values=np.tile(_RAMP, (1, 2))))
        for query, size in (("width=8", (4, 8)), ("height=32", (32, 64)), ("width=64&height=8", (8, 16))):
            self.assertEqual((await self.shown(f"{instance}/rendered?{query}")).shape, size)
        sharp = await self.shown(f"{instance}/rendered?height=32&smooth=0")
        self.assertEqual(set(np.unique(sharp)) - set(np.unique(await self.shown(f"{instance}/rendered"))), set())

    async def test_cut_values(self) -> None:
        """Values are cut to the range of the type; signs are kept as bits."""
        values = np.array([[-40000 + 65536 - 65536, -5], [300, 30000]]).clip(-32768, 32767).astype("<i2")
        instance = await self.store(ramp(values=values))
        np.testing.assert_array_equal(await self.shown(f"{instance}/image-uint8"), values.clip(0, 255))
        np.testing.assert_array_equal(await self.shown(f"{instance}/image-uint16"), values.clip(0, 32767))
        signed = await self.shown(f"{instance}/image-int16")
        np.testing.assert_array_equal(signed.astype(np.uint16).view(np.int16), values)

    async def test_colours(self) -> None:
        """RGB, YBR and palettes are shown in their colours; as grey values they cannot be had."""
        for name in ("SC_rgb_small_odd.dcm", "examples_ybr_color.dcm", "examples_palette.dcm"):
            instance = await self.store(sample(name))
            self.assertEqual((await self.shown(f"{instance}/preview")).ndim, 3, name)
            self.assertEqual(await self.status(f"{instance}/image-uint8"), 415)
        expected = pydicom.dcmread(io.BytesIO(sample("SC_rgb_small_odd.dcm"))).pixel_array
        instance = await self.store(sample("SC_rgb_small_odd.dcm"))
        np.testing.assert_array_equal(await self.shown(f"{instance}/preview"), expected)

    async def test_segmented_palette(self) -> None:
        """A palette in segments is the one that it stands for (PS3.3 section C.7.9.2)."""
        # 0 to 255 in one linear segment, and the same as a discrete one.
        linear = np.array([0, 1, 0, 1, 255, 65280], "<u2").tobytes()
        discrete = np.array([0, 256, *(value * 256 for value in range(256))], "<u2").tobytes()
        palette: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR"}
        for color, data in (("Red", linear), ("Green", discrete), ("Blue", linear)):
            palette[f"{color}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
            palette[f"Segmented{color}PaletteColorLookupTableData"] = data
        instance = await self.store(ramp(**palette))
        shown = await self.shown(f"{instance}/preview")
        self.assertLessEqual(np.abs(shown.astype(int) - _RAMP[..., np.newaxis]).max(), 1)
        np.testing.assert_array_equal(shown[..., 1], _RAMP)

    async def test_frames(self) -> None:
        """Each frame is shown alone, and listed with what can be had of it."""
        expected = pydicom.dcmread(io.BytesIO(sample("emri_small.dcm"))).pixel_array
        instance = await self.store(sample("emri_small.dcm"))
        for number in (0, 3, 9):
            np.testing.assert_array_equal(
                await self.shown(f"{instance}/frames/{number}/image-uint16"), expected[number]
            )
        self.assertEqual(
            await self.client.json(f"{instance}/frames/2"),
            [
                *("image-int16", "image-uint16", "image-uint8", "matlab", "numpy"),
                *("preview", "raw", "raw.gz", "rendered"),
            ],
        )


class NegotiationTest(ImageCase):
    """Types of images, and what is refused."""

    async def test_types(self) -> None:
        """The client's favourite of PNG, JPEG and PAM is given, PNG to who has none."""
        instance = await self.store(ramp())
        for accept, expected in (
            (None, "image/png"),
            ("*/*", "image/png"),
            ("image/*", "image/png"),
            ("image/jpeg", "image/jpeg"),
            ("image/jpeg;q=0.5, image/png;q=0.9", "image/png"),
            ("text/html, image/x-portable-arbitrarymap", "image/x-portable-arbitrarymap"),
        ):
            headers = {} if accept is None else {"Accept": accept}
            answer = await self.client.get(f"{instance}/preview", headers=headers)
            self.assertEqual((answer.status, answer.headers["content-type"]), (200, expected), accept)
        self.assertEqual(await self.status(f"{instance}/preview", Accept="text/html"), 404)

    async def test_pam(self) -> None:
        """A PAM tells its size and has big-endian values."""
        values = np.array([[1, 2], [300, 40000]], "<u2")
        instance = await self.store(ramp(values=values))
        answer = await self.client.get(
            f"{instance}/image-uint16", headers={"Accept": "image/x-portable-arbitrarymap"}
        )
        head, _, data = answer.body.partition(b"ENDHDR\n")
        self.assertEqual(head, b"P7\nWIDTH 2\nHEIGHT 2\nDEPTH 1\nMAXVAL 65535\nTUPLTYPE GRAYSCALE\n")
        np.testing.assert_array_equal(np.frombuffer(data, ">u2").reshape(2, 2), values)

    async def test_quality(self) -> None:
        """A better JPEG is larger; qualities that do not exist are refused."""
        instance = await self.store(sample("MR_small.dcm"))
        sizes = [
            len((await self.client.get(f"{instance}/preview?quality={q}", headers={"Accept": "image/jpeg"})).body)
            for q in (10, 95)
        ]
        self.assertLess(*sizes)
        for quality in ("0", "101", "-1", "x", ""):
            path = f"{instance}/preview?quality={quality}"
            self.assertEqual(await self.status(path, Accept="image/jpeg"), 415, quality)

    async def test_refusals(self) -> None:
        """Unknown instances, frames, windows and sizes have empty answers; so have objects without pixels."""
        instance = await self.store(ramp())
        for path, status in (
            (f"/instances/{NOBODY}/preview", 404),
            (f"{instance}/frames/1/preview", 415),
            (f"{instance}/frames/-1/preview", 404),
            (f"{instance}/frames/x/preview", 404),
            (f"{instance}/rendered?window-center=x", 404),
            (f"{instance}/rendered?window-width=nan", 404),
            (f"{instance}/rendered?width=x", 404),
            (f"{instance}/rendered?height=999999", 415),
            (f"{instance}/pdf", 404),
        ):
            self.assertEqual(await self.status(path), status, path)
        plan = await self.store(sample("rtplan.dcm"))
        self.assertEqual(await self.status(f"{plan}/preview"), 415)
        for name in ("numpy", "matlab", "frames/0/raw"):
            self.assertEqual((await self.client.get(f"{plan}/{name}")).status, 400, name)

    async def test_placeholder(self) -> None:
        """A client that asks for it is sent to a picture in the place of one that cannot be shown."""
        plan = await self.store(sample("rtplan.dcm"))
        for path, up in (("preview", "../../"), ("frames/0/preview", "../../../../")):
            answer = await self.client.get(f"{plan}/{path}?returnUnsupportedImage")
            self.assertEqual((answer.status, answer.headers["location"]), (307, f"{up}app/images/unsupported.png"))
        shown = await self.client.get("/app/images/unsupported.png")
        self.assertEqual((shown.status, picture(shown.body).ndim > 1), (200, True))

    async def test_lying_dimensions(self) -> None:
        """Sizes that the data does not have, and frames that are missing, are refused, and the server goes on."""
        for tags in (
            {"Rows": 60000, "Columns": 60000},
            {"Rows": 0},
            {"NumberOfFrames": "5"},
            {"BitsAllocated": 12},
            {"PhotometricInterpretation": "NONSENSE", "SamplesPerPixel": 3},
        ):
            instance = await self.store(ramp("1.2.1.1.9", **tags))
            frame = 4 if "NumberOfFrames" in tags else 0
            self.assertEqual(await self.status(f"{instance}/frames/{frame}/preview"), 415, tags)
            await self.client.ask("DELETE", instance)
        self.assertEqual((await self.shown(f"{await self.store(ramp())}/preview")).shape, (16, 16))


class NumbersTest(ImageCase):
    """numpy, Octave and raw bytes."""

    async def array(self, path: str) -> Any:
        answer = await self.client.get(path)
        self.assertEqual((answer.status, answer.headers["content-type"]), (200, "application/octet-stream"), path)
        return np.load(io.BytesIO(answer.body))

    async def test_numpy(self) -> None:
        """An instance is a stack of its frames with one channel, rescaled unless the client says no."""
        values = _RAMP.astype("<i2") - 100
        instance = await self.store(ramp(values=values, RescaleSlope="0.5", RescaleIntercept="-7"))
        array = await self.array(f"{instance}/numpy")
        self.assertEqual((array.shape, array.dtype), ((1, 16, 16, 1), np.float32))
        np.testing.assert_allclose(array[0, ..., 0], values * 0.5 - 7)
        stored = await self.array(f"{instance}/frames/0/numpy?rescale=false")
        self.assertEqual((stored.shape, stored.dtype), ((16, 16, 1), np.int16))
        np.testing.assert_array_equal(stored[..., 0], values)

    async def test_compressed(self) -> None:
        """With compress the array is the member arr_0 of a ZIP archive."""
        instance = await self.store(sample("emri_small.dcm"))
        answer = await self.client.get(f"{instance}/numpy?compress&rescale=false")
        expected = pydicom.dcmread(io.BytesIO(sample("emri_small.dcm"))).pixel_array
        np.testing.assert_array_equal(np.load(io.BytesIO(answer.body))["arr_0"][..., 0], expected)

    async def test_series(self) -> None:
        """A series is stacked from slice to slice, by position rather than by number."""
        for number, position in ((1, 30.0), (2, 10.0), (3, 20.0)):
            await self.store(
                ramp(
                    f"1.2.1.1.{number}",
                    values=np.full((4, 4), number, np.uint8),
                    ImagePositionPatient=[0.0, 0.0, position],
                    ImageOrientationPatient=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
                )
            )
        (series,) = await self.client.json("/series")
        array = await self.array(f"/series/{series}/numpy")
        self.assertEqual((array.shape, array[:, 0, 0, 0].tolist()), ((3, 4, 4, 1), [2, 3, 1]))
        self.assertEqual((await self.client.get(f"/series/{NOBODY}/numpy")).status, 404)

    async def test_series_of_different_sizes(self) -> None:
        """Frames that do not fit together end the connection, never in an array that looks whole."""
        await self.store(ramp("1.2.1.1.1", values=np.zeros((4, 4), np.uint8)))
        await self.store(ramp("1.2.1.1.2", values=np.zeros((4, 5), np.uint8)))
        (series,) = await self.client.json("/series")
        with self.assertRaises(Exception):  # noqa: B017 - the client tells of it in several ways
            await self.client.get(f"/series/{series}/numpy")
        self.assertEqual((await self.client.get("/system")).status, 200)

    async def test_matlab(self) -> None:
        """Octave reads a matrix, and puts colours into order itself."""
        instance = await self.store(ramp(values=np.array([[1, 2], [3, 4]], np.uint8)))
        self.assertEqual((await self.client.get(f"{instance}/matlab")).text, "double([ 1 2 ; 3 4 ])")
        colours = await self.store(sample("SC_rgb_small_odd.dcm"))
        text = (await self.client.get(f"{colours}/matlab")).text
        self.assertEqual(text[:24], "double(permute(reshape([")
        self.assertEqual(text[-25:], ", [ 3 3 3 ]), [ 3 2 1 ]))"[-25:])

    async def test_raw(self) -> None:
        """The bytes of a frame are those of the file, alone or within gzip."""
        data = sample("color3d_jpeg_baseline.dcm") if _has("color3d_jpeg_baseline.dcm") else sample("JPEG2000.dcm")
        dataset = pydicom.dcmread(io.BytesIO(data))
        frames = list(generate_frames(dataset.PixelData, number_of_frames=int(dataset.get("NumberOfFrames", 1))))
        instance = await self.store(data)
        for number in {0, len(frames) - 1}:
            answer = await self.client.get(f"{instance}/frames/{number}/raw")
            self.assertEqual(answer.body, frames[number])
            packed = await self.client.get(f"{instance}/frames/{number}/raw.gz")
            self.assertEqual(packed.headers["content-type"], "application/gzip")
            self.assertEqual(gzip.decompress(packed.body), frames[number])

    async def test_pdf(self) -> None:
        """An encapsulated PDF is given as it is."""
        document = b"%PDF-1.4 nothing\n"
        instance = await self.store(
            dicom_object(EncapsulatedDocument=document + b"\0", MIMETypeOfEncapsulatedDocument="application/pdf")
        )
        answer = await self.client.get(f"{instance}/pdf")
        self.assertEqual((answer.headers["content-type"], answer.body.rstrip(b"\0")), ("application/pdf", document))

    async def test_compressed_storage(self) -> None:
        """Files that the storage area has compressed are shown like any others."""
        await self.restart(StorageCompression=True)
        instance = await self.store(ramp())
        np.testing.assert_array_equal(await self.shown(f"{instance}/preview"), _RAMP)
        self.assertEqual((await self.client.get(f"{instance}/frames/0/raw")).body, _RAMP.tobytes())


def _has(name: str) -> bool:
    return pydicom.data.get_testdata_file(name, download=False) is not None


class TranscodedFileTest(ImageCase):
    """Files in another transfer syntax."""

    async def test_lossless(self) -> None:
        """The file is given in the syntax that is asked for, with the same pixels and the same instance."""
        data = sample("CT_small.dcm")
        expected = pydicom.dcmread(io.BytesIO(data))
        instance = await self.store(data)
        for uid in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.5"):
            answer = await self.client.get(f"{instance}/file?transcode={uid}")
            self.assertEqual((answer.status, answer.headers["content-type"]), (200, "application/dicom"))
            file = pydicom.dcmread(io.BytesIO(answer.body))
            self.assertEqual((file.file_meta.TransferSyntaxUID, file.SOPInstanceUID), (uid, expected.SOPInstanceUID))
            np.testing.assert_array_equal(file.pixel_array, expected.pixel_array)

    async def test_lossy(self) -> None:
        """What loses something is another instance."""
        instance = await self.store(sample("CT_small.dcm"))
        answer = await self.client.get(f"{instance}/file?transcode=1.2.840.10008.1.2.4.91&lossy-quality=50")
        file = pydicom.dcmread(io.BytesIO(answer.body))
        self.assertEqual(file.LossyImageCompression, "01")
        self.assertNotEqual(file.SOPInstanceUID, pydicom.dcmread(io.BytesIO(sample("CT_small.dcm"))).SOPInstanceUID)

    async def test_refusals(self) -> None:
        """Syntaxes that do not exist or cannot hold the object, and qualities that do not exist, are refused."""
        instance = await self.store(sample("CT_small.dcm"))
        for query in ("transcode=1.2.3", "transcode=", "transcode=1.2.840.10008.1.2.4.50"):
            self.assertEqual((await self.client.get(f"{instance}/file?{query}")).status, 400, query)
        path = f"{instance}/file?transcode=1.2.840.10008.1.2.4.91&lossy-quality=101"
        self.assertError(await self.client.get(path), 400, 3)
