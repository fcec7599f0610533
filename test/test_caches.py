"""What is kept in memory: never too much, never wrong, never of what is gone."""

from __future__ import annotations

import io
import random
import zlib
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from typing import Any

import attrs
import numpy as np
from PIL import Image
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase, TestCase

from orthanctw.caches import OVERHEAD, Cache
from orthanctw.dicom.keeping import KeepingTranscoder
from orthanctw.dicom.pixels.syntaxes import JPEG_BASELINE, JPEG_LS_LOSSLESS, RLE
from orthanctw.remote import Outgoing
from orthanctw.rest.authentication import Authenticator
from orthanctw.threads import NamedPool
from test.dicom_files import EXPLICIT
from test.rest_samples import RestCase, dicom_object, pixels

_LIMIT = 1 << 16
_OFF = {"MaximumStorageCacheSize": 0, "DicomParserCacheSize": 0, "TranscoderCacheSize": 0}


def put(cache: Cache[bytes], uuid: str, size: int, detail: str = "") -> None:
    """Have a value kept, as one who has just made it."""
    with cache.entry(uuid, detail) as entry:
        entry.keep(bytes(size), size)


class CacheTests(SynchronousTestCase):
    """The cache itself."""

    def setUp(self) -> None:
        self.cache: Cache[bytes] = Cache(_LIMIT)

    def test_never_over_the_limit(self) -> None:
        """Whatever is put and dropped: what can be found is what is counted, and never more than the limit."""
        choose = random.Random(1)
        for _ in range(2000):
            uuid, detail = str(choose.randrange(60)), str(choose.randrange(3))
            if choose.random() < 0.1:
                self.cache.drop([uuid])
            else:
                put(self.cache, uuid, choose.randrange(self.cache.largest + 100), detail)
            found = [self.cache.find(str(i), str(j)) for i in range(60) for j in range(3)]
            kept = [len(value) + OVERHEAD for value in found if value is not None]
            self.assertEqual((len(self.cache), self.cache.size), (len(kept), sum(kept)))
            self.assertLessEqual(self.cache.size, _LIMIT)
        self.assertGreater(self.cache.size, _LIMIT // 2)

    def test_oldest_go(self) -> None:
        """Those go first that were not asked for longest."""
        size = self.cache.largest
        for number in range(16):
            put(self.cache, str(number), size)
        self.assertIsNotNone(self.cache.find("0", ""))
        put(self.cache, "new", size)
        kept = [number for number in range(16) if self.cache.find(str(number), "") is not None]
        self.assertEqual(kept, [0, *range(2, 16)])

    def test_too_large(self) -> None:
        """A value that would take more than its share is not kept, and nothing goes for it."""
        put(self.cache, "small", 10)
        put(self.cache, "large", self.cache.largest + 1)
        self.assertFalse(self.cache.takes(self.cache.largest + 1))
        self.assertIsNone(self.cache.find("large", ""))
        self.assertIsNotNone(self.cache.find("small", ""))

    def test_counts(self) -> None:
        """What is found is a hit, what has to be made a miss."""
        for _ in range(3):
            with self.cache.entry("a", "x") as entry:
                if entry.value is None:
                    entry.keep(b"value", 5)
        self.assertEqual((self.cache.hits, self.cache.misses, len(self.cache)), (2, 1, 1))

    def test_off(self) -> None:
        """Without room nothing is kept or counted."""
        cache: Cache[bytes] = Cache(0)
        put(cache, "a", 0)
        self.assertFalse(cache.takes(0))
        self.assertEqual((len(cache), cache.size, cache.hits, cache.misses), (0, 0, 0, 0))

    def test_dropped_while_it_is_made(self) -> None:
        """What is being made of a file that goes meanwhile is not kept; of another file it is."""
        with self.cache.entry("gone", "a") as entry, self.cache.entry("there", "a") as other:
            self.cache.drop(["gone"])
            entry.keep(b"value", 5)
            other.keep(b"value", 5)
        self.assertIsNone(self.cache.find("gone", "a"))
        self.assertIsNotNone(self.cache.find("there", "a"))

    def test_threads(self) -> None:
        """Many threads at once leave the numbers right."""

        def work(seed: int) -> None:
            choose = random.Random(seed)
            for _ in range(2000):
                put(self.cache, str(choose.randrange(40)), choose.randrange(self.cache.largest))
                self.cache.drop([str(choose.randrange(40))])

        threads = [Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        kept = [value for value in (self.cache.find(str(i), "") for i in range(40)) if value is not None]
        self.assertEqual(self.cache.size, sum(len(value) + OVERHEAD for value in kept))
        self.cache.drop(map(str, range(40)))
        self.assertEqual((len(self.cache), self.cache.size), (0, 0))


class FakeTranscoder:
    """Answers with what it is given, and remembers."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.released: list[str] = []
        self.answer: Outgoing | None = None

    def transcode(
        self,
        outgoing: Outgoing,
        accepted: Sequence[str],
        *,
        quality: int | None = None,
        allows_new_uid: bool = False,
        spools: bool = False,
    ) -> Deferred[Outgoing | None]:
        self.asked.append((*accepted, quality))
        return succeed(self.answer)

    def release(self, outgoing: Outgoing) -> None:
        self.released.append(outgoing.path)


class KeepingTranscoderTests(TestCase):
    """Transcoded objects."""

    def setUp(self) -> None:
        self.inner = FakeTranscoder()
        self.cache: Cache[Outgoing] = Cache(_LIMIT)
        pool = NamedPool(reactor, "test-caches", 1, synchronous=True)  # type: ignore[arg-type]
        self.transcoder = KeepingTranscoder(self.inner, self.cache, pool)  # type: ignore[arg-type]
        self.source = Outgoing(
            sop_class_uid="1.2", sop_instance_uid="1.3", transfer_syntax=EXPLICIT, path="stored", uuid="u"
        )
        self.made = attrs.evolve(self.source, transfer_syntax=RLE, path="", content=b"made")

    async def ask(self, *accepted: str, **options: Any) -> Outgoing | None:
        return await self.transcoder.transcode(attrs.evolve(self.source), accepted, **options)

    async def test_once(self) -> None:
        """The same is made once; another syntax, or another quality of a lossy one, is another object."""
        self.inner.answer = self.made
        for _ in range(2):
            self.assertEqual(await self.ask(RLE), attrs.evolve(self.made, uuid=""))
            await self.ask(RLE, quality=50)
            await self.ask(RLE, allows_new_uid=True)
            await self.ask(JPEG_BASELINE, RLE)
            await self.ask(JPEG_LS_LOSSLESS)
            await self.ask(JPEG_BASELINE, quality=50, allows_new_uid=True)
            await self.ask(JPEG_BASELINE, quality=60, allows_new_uid=True)
        self.assertEqual(
            self.inner.asked, [(RLE, None), (JPEG_LS_LOSSLESS, None), (JPEG_BASELINE, 50), (JPEG_BASELINE, 60)]
        )

    async def test_not_stored(self) -> None:
        """What no file of the storage area is, is made each time."""
        self.inner.answer, self.source = self.made, attrs.evolve(self.source, uuid="")
        await self.ask(RLE)
        await self.ask(RLE)
        self.assertEqual((len(self.inner.asked), len(self.cache)), (2, 0))

    async def test_impossible(self) -> None:
        """That an object cannot be had is not kept."""
        self.assertIsNone(await self.ask(RLE))
        self.assertEqual(len(self.cache), 0)

    async def test_temporary_files(self) -> None:
        """A small temporary file is read and removed; a large one is handed on as it is, and stays its taker's."""
        for size, kept in ((self.cache.largest, 1), (self.cache.largest + 1, 0)):
            path = Path(self.mktemp())
            path.write_bytes(b"x" * size)
            self.inner.answer = attrs.evolve(self.made, content=b"", path=str(path), is_temporary=True)
            self.inner.released.clear()
            found = await self.ask(RLE, spools=True)
            assert found is not None
            self.assertEqual((len(found.content), found.is_temporary), (size * kept, not kept))
            self.assertEqual((len(self.cache), len(self.inner.released)), (kept, kept))
            self.cache.drop(["u"])

    async def test_unreadable_temporary_file(self) -> None:
        """One that cannot be read is removed."""
        self.inner.answer = attrs.evolve(self.made, content=b"", path="/nowhere/at all", is_temporary=True)
        with self.assertRaisesRegex(Exception, "gone"):
            await self.ask(RLE, spools=True)
        self.assertEqual(self.inner.released, ["/nowhere/at all"])


def ct(fill: int = 7, side: int = 16, frames: int = 1) -> bytes:
    """An image whose right half is lighter than the left by `fill`."""
    plane = np.zeros((frames, side, side), np.uint8)
    plane[:, :, side // 2 :] = fill
    return dicom_object(**pixels(side, side) | {"PixelData": plane.tobytes(), "NumberOfFrames": str(frames)})


class ServerTests(RestCase):
    """A server whose caches are looked at; with its children ended, only what was kept can be shown."""

    async def store(self, data: bytes) -> str:
        return f"/instances/{(await self.client.store(data))['ID']}"

    async def body(self, path: str, **headers: str) -> bytes:
        answer = await self.client.get(path, headers=headers)
        self.assertIn(answer.status, (200, 206), path)
        return answer.body

    def numbers(self, cache: str) -> tuple[float, ...]:
        """Count, hits and misses of a cache, as the metrics tell them."""
        found = self.server.metrics.snapshot()
        size = found[f"orthanc_{cache}_cache_size_mb"][0]
        count, *asked = (found[f"orthanc_{cache}_cache_{name}"][0] for name in ("count", "hit_count", "miss_count"))
        self.assertEqual(size > 0, count > 0)
        return (count, *asked)

    async def end_children(self) -> None:
        await self.server.processes.close()

    def damage_files(self) -> None:
        """Empty all files of the storage area."""
        for name in self.files():
            (self.folder / name).write_bytes(b"")

    async def test_pictures(self) -> None:
        """A picture or an array is made once; with other parameters it is another one."""
        instance = await self.store(ct(frames=2))
        paths = [
            f"{instance}/preview",
            f"{instance}/rendered",
            f"{instance}/rendered?width=8",
            f"{instance}/rendered?window-center=1&window-width=2",
            f"{instance}/rendered?window-center=2&window-width=2",
            f"{instance}/frames/1/preview",
            f"{instance}/image-uint16",
            f"{instance}/matlab",
            f"{instance}/numpy",
            f"{instance}/numpy?rescale=0",
        ]
        first = [await self.body(path) for path in paths]
        self.assertGreater(len(set(first)), 5)
        # Two frames of an array are two values.
        self.assertEqual(self.numbers("dicom_parser"), (12, 0, 12))
        await self.end_children()
        self.assertEqual([await self.body(path) for path in paths], first)
        self.assertEqual(self.numbers("dicom_parser"), (12, 12, 12))
        self.assertEqual((await self.client.get(f"{instance}/rendered?width=9")).status, 503)

    async def test_transcoded(self) -> None:
        """A file in another syntax is made once; a lossy one stays the same instance."""
        instance = await self.store(ct())
        paths = [f"{instance}/file?transcode={uid}" for uid in (RLE, JPEG_BASELINE, f"{JPEG_BASELINE}&lossy-quality=9")]
        first = [await self.body(path) for path in paths]
        self.assertEqual(len(set(first)), 3)
        await self.end_children()
        self.assertEqual([await self.body(path) for path in paths], first)
        self.assertEqual(self.numbers("transcoder"), (3, 3, 3))

    async def test_compressed_files(self) -> None:
        """The content of a compressed file is inflated once, for whole and partial answers; the file itself is read."""
        await self.restart(StorageCompression=True)
        data = ct(side=400)
        instance = await self.store(data)
        file = f"{instance}/file"
        self.assertEqual(await self.body(file, range="bytes=0-99"), data[:100])
        self.assertEqual(self.numbers("storage"), (0, 0, 0))
        self.assertEqual(await self.body(file), data)
        stored = await self.body(f"{instance}/attachments/dicom/compressed-data")
        self.assertEqual(zlib.decompress(stored[8:]), data)
        self.assertEqual(self.numbers("storage"), (1, 0, 1))
        self.damage_files()
        self.assertEqual(await self.body(file), data)
        self.assertEqual(await self.body(file, range="bytes=100-199"), data[100:200])
        self.assertEqual(await self.body(f"{instance}/attachments/dicom/data"), data)
        self.assertEqual(await self.body(f"{instance}/content/0010-0020"), b"P1")
        answer = await self.client.get(file, headers={"range": f"bytes={len(data)}-"})
        self.assertEqual(answer.status, 416)
        self.assertEqual(self.numbers("storage"), (1, 4, 1))

    async def test_damaged_compressed_file(self) -> None:
        """Of a file that cannot be inflated nothing is kept."""
        await self.restart(StorageCompression=True)
        instance = await self.store(ct())
        self.damage_files()
        for _ in range(2):
            self.assertEqual((await self.client.get(f"{instance}/file")).status, 500)
        self.assertEqual(self.numbers("storage"), (0, 0, 2))

    async def test_plain_files(self) -> None:
        """Small files are kept; larger ones are the kernel's."""
        small = await self.store(ct())
        for _ in range(2):
            self.assertEqual(await self.body(f"{small}/file"), ct())
        self.assertEqual(self.numbers("storage"), (1, 1, 1))
        large = await self.store(ct(side=300).replace(b"1.2.1.1.1", b"1.2.1.1.2"))
        await self.body(f"{large}/file")
        self.assertEqual(self.numbers("storage"), (1, 1, 1))

    async def test_overwritten(self) -> None:
        """After an instance was overwritten its new content is shown, and nothing of the old one is kept."""
        await self.restart(OverwriteInstances=True)
        paths: list[str] = []
        seen = []
        for fill in (10, 20):
            instance = await self.store(ct(fill))
            paths = [f"{instance}/image-uint8", f"{instance}/file", f"{instance}/file?transcode={RLE}"]
            seen.append([await self.body(path) for path in paths])
            self.assertEqual(np.asarray(Image.open(io.BytesIO(seen[-1][0]))).max(), fill)
            await self.server.ingest.settle()
            counts = [self.numbers(cache)[0] for cache in ("storage", "dicom_parser", "transcoder")]
            self.assertEqual(counts, [1, 1, 1])
        self.assertFalse(set(seen[0]) & set(seen[1]))

    async def test_deleted(self) -> None:
        """Of a deleted instance nothing is shown, and nothing is kept."""
        instance = await self.store(ct())
        paths = [f"{instance}/preview", f"{instance}/file", f"{instance}/file?transcode={RLE}"]
        for path in paths:
            await self.body(path)
        self.assertEqual((await self.client.ask("DELETE", instance)).status, 200)
        for path in paths:
            self.assertEqual((await self.client.get(path)).status, 404, path)
        for cache in ("storage", "dicom_parser", "transcoder"):
            self.assertEqual(self.numbers(cache)[0], 0, cache)

    async def test_off(self) -> None:
        """With sizes of 0 everything is made anew, and nothing counted."""
        await self.restart(**_OFF)
        instance = await self.store(ct())
        paths = [f"{instance}/preview", f"{instance}/file?transcode={RLE}"]
        for path in (*paths, f"{instance}/file"):
            await self.body(path)
        for cache in ("storage", "dicom_parser", "transcoder"):
            self.assertEqual(self.numbers(cache), (0, 0, 0))
        await self.end_children()
        for path in paths:
            self.assertEqual((await self.client.get(path)).status, 503, path)

    async def test_strangers(self) -> None:
        """Who is not let in gets nothing, kept or not."""
        instance = await self.store(ct())
        await self.body(f"{instance}/preview")
        authenticator = Authenticator(remote_access=True, enabled=True, users={"a": "b"})
        self.server.site.options = attrs.evolve(self.server.site.options, authenticator=authenticator)
        self.assertEqual((await self.client.get(f"{instance}/preview")).status, 401)
