"""WebDAV as a client sees it: folders, files, properties, locks, deleting."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from unittest.mock import patch
from urllib.parse import quote

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from orthanctw.model import Change, ChangeType, ResourceLevel
from orthanctw.webdav import listings
from orthanctw.webdav.listings import Listing, Listings, Named
from test.rest_samples import dicom_object, hierarchy
from test.webdav_case import VIEWS, WebDavCase, entries

METHODS = "GET, PUT, DELETE, OPTIONS, PROPFIND, HEAD, LOCK, UNLOCK, PROPPATCH, MKCOL"
#: Values that may do harm in paths, in XML and in URLs.
HOSTILE = {
    "PatientID": 'P/%41"c&<d>',
    "PatientName": "Ü^Zoë..",
    "StudyDescription": "a/b?c*:|#;=+é",
    "SeriesDescription": "..",
}


class ViewTests(WebDavCase):
    """What lies where."""

    async def test_all(self) -> None:
        """Every view has every object, under names made of tags, with its size."""
        stored = await self.fill()
        first, second, third, fourth = (item["ID"] for item in stored)
        sizes = dict(zip((first, second, third, fourth), map(len, hierarchy()), strict=True))
        series = {
            "CT - AXIAL": (first, second),
            "MR - SAG": (third,),
        }
        expected: dict[str, int | None] = {f"/{name}": None for name in [*VIEWS, "uploads"]}
        for place in ("/by-studies/P1 - DOE JOHN - HEAD", "/by-patients/P1 - DOE JOHN/20240102 - HEAD"):
            expected |= {place.rpartition("/")[0]: None, place: None}
            for name, ids in series.items():
                expected |= {f"{place}/{name}": None, **{f"{place}/{name}/{one}.dcm": sizes[one] for one in ids}}
        found = await self.walk()
        for path, size in expected.items():
            self.assertEqual(found[path], size, path)
        month = {path for path in found if path.startswith("/by-dates/2024/2024-01/P1 - DOE JOHN - HEAD/")}
        self.assertEqual(len(month), 5)
        self.assertIn("/by-dates/2025/2025-06/P2 - MLLER ANNA - KNEE/CT - AXIAL", found)
        self.assertEqual(found["/by-uids/1.2.1/1.2.1.1/1.2.1.1.2.dcm"], sizes[second])
        files = [path for path, size in found.items() if size is not None]
        # Four objects in four views, and JSON of two studies and three series.
        self.assertEqual(len(files), 4 * 4 + 2 + 3)

    async def test_names(self) -> None:
        """Whatever tags hold: each name is one step of a path that leads to the object, and no two are equal."""
        objects = [dicom_object(study=f"1.{n}", series=f"1.{n}.1", sop=f"1.{n}.1.1", **HOSTILE) for n in range(3)]
        nothing = {"PatientID": "", "PatientName": "", "StudyDescription": "", "StudyDate": "2024", "Modality": ""}
        objects.append(dicom_object(study="2", series="2.1", sop="2.1.1", SeriesDescription="", **nothing))
        stored = [await self.client.store(data) for data in objects]
        name = "P%41 c& d - Zo.. - ab c #;=+"
        self.assertEqual(await self.names("/by-studies"), [name, f"{name} (1)", f"{name} (2)", "- -"])
        self.assertEqual(await self.names("/by-patients"), ["P%41 c& d - Zo..", "-"])
        self.assertEqual(await self.names("/by-patients/-"), ["2024 -"])
        self.assertEqual(await self.names("/by-dates"), ["2024"])
        self.assertEqual(await self.names("/by-studies/" + quote(f"{name} (2)")), ["CT - .."])
        found = await self.walk("/by-studies")
        for data, item in zip(objects, stored, strict=True):
            (path,) = (path for path in found if path.endswith(f"/{item['ID']}.dcm"))
            self.assertEqual((await self.dav("GET", quote(path))).body, data)

    async def test_utf8(self) -> None:
        """``ZipUseUtf8`` keeps what is not ASCII, as in archives."""
        await self.restart(ZipUseUtf8=True)
        await self.client.store(dicom_object(**HOSTILE))
        (name,) = await self.names("/by-patients")
        self.assertEqual(name, "P%41 c& d - Ü Zoë..")
        self.assertEqual(await self.names(f"/by-patients/{quote(name)}"), ["20240102 - ab c #;=+é"])

    async def test_unknown(self) -> None:
        """What is not there is not found, at any depth, nor below a file."""
        await self.fill()
        for path in ("/x", "/by-uids/9", "/by-uids/1.2.1/1.2.2.1", "/by-uids/1.2.1/study.json/x", "/by-dates/2023"):
            for method in ("PROPFIND", "GET", "HEAD"):
                self.assertEqual((await self.dav(method, path, Depth="0")).status, 404, (method, path))

    async def test_time_passes(self) -> None:
        """What comes and goes after a folder was listed is in the next list, and in paths."""
        stored = await self.fill()
        self.assertEqual(await self.names("/by-uids"), ["1.2.1", "1.2.2"])
        await self.client.store(dicom_object("P3", "1.2.3", "1.2.3.1", "1.2.3.1.1", StudyDate="20250608"))
        self.assertEqual(await self.names("/by-uids/1.2.3"), ["study.json", "1.2.3.1"])
        self.assertEqual(len(await self.names("/by-dates/2025/2025-06")), 2)
        await self.client.ask("DELETE", f"/studies/{stored[3]['ParentStudy']}")
        self.assertEqual(await self.names("/by-uids"), ["1.2.1", "1.2.3"])
        self.assertEqual(len(await self.names("/by-dates/2025/2025-06")), 1)
        self.assertEqual((await self.dav("PROPFIND", "/by-uids/1.2.2", Depth="0")).status, 404)
        await self.client.store(list(hierarchy())[3])
        self.assertEqual(await self.names("/by-uids"), ["1.2.1", "1.2.3", "1.2.2"])

    async def test_many(self) -> None:
        """A long folder comes whole, in the order of creation; one beyond the limit to it."""
        count = 2 * listings._BATCH + 10
        for number in range(count):
            await self.client.store(dicom_object("P", f"1.{number}", f"1.{number}.1", f"1.{number}.1.1"))
        self.assertEqual(await self.names("/by-uids"), [f"1.{number}" for number in range(count)])
        with patch.object(listings, "MAXIMUM_NAMES", 5):
            self.assertEqual(len(await self.names("/by-studies")), 5)


class FileTests(WebDavCase):
    """Reading files."""

    async def test_object(self) -> None:
        """A file is whole, in part, or told of; with a version and a time."""
        await self.fill()
        data, path = next(hierarchy()), "/by-uids/1.2.1/1.2.1.1/1.2.1.1.1.dcm"
        whole = await self.dav("GET", path)
        self.assertEqual((whole.status, whole.body, whole.headers["content-type"]), (200, data, "application/dicom"))
        (entry,) = await self.propfind(path, depth="0")
        self.assertEqual(entry.found["getlastmodified"], whole.headers["last-modified"])
        part = await self.dav("GET", path, Range="bytes=130-139")
        self.assertEqual((part.status, part.body), (206, data[130:140]))
        head = await self.exchange(f"HEAD /webdav{path} HTTP/1.0\r\n\r\n")
        self.assertTrue(head.endswith(b"\r\nContent-Length: %d\r\n\r\n" % len(data)), head)
        known = await self.dav("GET", path, **{"If-None-Match": whole.headers["etag"]})
        self.assertEqual(known.status, 304)

    async def test_json(self) -> None:
        """A study and a series are told of in their folders as over REST; the length is right."""
        stored = await self.fill()
        for path, resource in (
            ("/by-uids/1.2.1/study.json", f"/studies/{stored[0]['ParentStudy']}"),
            ("/by-uids/1.2.1/1.2.1.1/series.json", f"/series/{stored[0]['ParentSeries']}"),
        ):
            answer = await self.dav("GET", path)
            self.assertEqual(answer.json(), await self.client.json(resource))
            self.assertEqual(answer.headers["content-type"], "application/json")
            (entry,) = await self.propfind(path, depth="0")
            self.assertEqual((entry.is_folder, int(entry.found["getcontentlength"])), (False, len(answer.body)))

    async def test_folder(self) -> None:
        """A folder has no content; HEAD says that it is there."""
        await self.fill()
        for path in ("", "/", "/by-uids", "/by-uids/1.2.1/", "/uploads"):
            self.assertEmpty(await self.dav("GET", path), 404)
            self.assertEmpty(await self.dav("HEAD", path), 200)


class PropertyTests(WebDavCase):
    """PROPFIND."""

    async def test_layout(self) -> None:
        """As Orthanc writes it, but for the date."""
        answer = await self.dav("PROPFIND", "", Depth="0")
        (entry,) = entries(answer)
        created, modified = entry.found["creationdate"], entry.found["getlastmodified"]
        self.assertEqual(parsedate_to_datetime(modified).strftime("%Y-%m-%dT%H:%M:%SZ"), created)
        self.assertEqual(
            answer.text,
            f"""<?xml version="1.0" encoding="UTF-8"?>
<D:multistatus xmlns:D="DAV:">
  <D:response>
    <D:href>/webdav/</D:href>
    <D:propstat>
      <D:status>HTTP/1.1 200 OK</D:status>
      <D:prop>
        <D:displayname>webdav</D:displayname>
        <D:creationdate>{created}</D:creationdate>
        <D:getlastmodified>{modified}</D:getlastmodified>
        <D:resourcetype>
          <D:collection />
        </D:resourcetype>
      </D:prop>
    </D:propstat>
  </D:response>
</D:multistatus>
""",
        )

    async def test_hrefs(self) -> None:
        """The folder itself ends with a slash, what lies in it does not."""
        found = await self.propfind("")
        self.assertEqual([entry.path for entry in found], ["/webdav/", *(f"/webdav/{n}" for n in [*VIEWS, "uploads"])])
        self.assertTrue(all(entry.is_folder for entry in found))

    async def test_asked(self) -> None:
        """Properties by name: those that are there, and those that are not; or names alone."""
        asked = '<x:resourcetype/><x:quota/><o xmlns="u:&quot;&lt;"/>'
        body = f'<x:propfind xmlns:x="DAV:"><x:prop>{asked}</x:prop></x:propfind>'
        (entry,) = await self.propfind("/uploads", body, depth="0")
        self.assertEqual((entry.is_folder, list(entry.found)), (True, ["resourcetype"]))
        self.assertEqual(entry.missing, ("{DAV:}quota", '{u:"<}o'))
        (entry,) = await self.propfind("", '<propfind xmlns="DAV:"><prop><a/></prop></propfind>', depth="0")
        self.assertEqual((dict(entry.found), entry.missing), ({}, ("{DAV:}a",)))
        (entry,) = await self.propfind("", '<propfind xmlns="DAV:"><propname/></propfind>', depth="0")
        self.assertEqual(set(entry.found.values()), {""})
        self.assertIn("getlastmodified", entry.found)
        (entry,) = await self.propfind("", '<propfind xmlns="DAV:"><allprop/></propfind>', depth="0")
        self.assertEqual(entry.found["displayname"], "webdav")


class MethodTests(WebDavCase):
    """Methods that change nothing."""

    async def test_options(self) -> None:
        """Classes and methods, on every path."""
        for path in ("", "/", "/uploads/x", "/x"):
            answer = await self.dav("OPTIONS", path)
            self.assertEmpty(answer, 200)
            self.assertEqual((answer.headers["dav"], answer.headers["allow"]), ("1,2", METHODS))

    async def test_others(self) -> None:
        """Nothing is copied or moved; elsewhere WebDAV's methods find nothing."""
        for method in ("COPY", "MOVE"):
            answer = await self.dav(method, "/uploads/x", Destination=f"http://127.0.0.1:{self.port}/webdav/uploads/y")
            self.assertEmpty(answer, 405)
            self.assertEqual(answer.headers["allow"], METHODS)
        self.assertEmpty(await self.dav("POST", "/uploads/x", b"x"), 405)
        self.assertEmpty(await self.dav("FOO", "/uploads"), 400)
        for method in ("PROPFIND", "PROPPATCH", "MKCOL", "LOCK", "UNLOCK"):
            self.assertEmpty(await self.client.ask(method, "/system"), 404)

    async def test_proppatch(self) -> None:
        """Nothing changes, and nothing fails."""
        body = '<propertyupdate xmlns="DAV:"><set><prop><a xmlns="b">c</a></prop></set></propertyupdate>'
        for each in ("", body):
            (entry,) = entries(await self.dav("PROPPATCH", "/uploads/a%20b", each))
            self.assertEqual((entry.path, dict(entry.found)), ("/webdav/uploads/a b", {}))

    async def test_locks(self) -> None:
        """Locks are given to everybody and keep nobody out; one that is named goes on."""
        body = "<lockinfo xmlns='DAV:'><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>"
        tokens = set()
        for _ in range(2):
            answer = await self.dav("LOCK", "/uploads/a&b", body, Timeout="Second-600")
            token = answer.headers["lock-token"]
            self.assertEqual(answer.status, 201)
            self.assertRegex(token, r"\Aopaquelocktoken:0x[0-9a-f]{32}\Z")
            self.assertIn(f"<D:href>{token}</D:href>", answer.text)
            self.assertIn("<D:href>/webdav/uploads/a%26b</D:href>", answer.text)
            tokens.add(token)
        self.assertEqual(len(tokens), 2)
        refreshed = await self.dav("LOCK", "/uploads/a&b", If=f"(<{token}>)")
        self.assertEqual((refreshed.status, "lock-token" in refreshed.headers), (200, False))
        self.assertIn(f"<D:href>{token}</D:href>", refreshed.text)
        for wrong in ("(<opaquelocktoken:0x12>)", "(<x><y>)", "(<", "(<opaquelocktoken:0x" + "z" * 32 + ">)"):
            answer = await self.dav("LOCK", "/uploads/a", If=wrong)
            self.assertEqual(answer.status, 201)
            self.assertNotIn(wrong, answer.text)
            self.assertEmpty(await self.dav("UNLOCK", "/uploads/a", **{"Lock-Token": wrong}), 204)
            self.assertEmpty(await self.dav("PUT", "/uploads/a", b"x", If=wrong), 201)


class DeletionTests(WebDavCase):
    """DELETE."""

    async def counts(self) -> tuple[int, int, int]:
        found = await self.client.json("/statistics")
        return found["CountPatients"], found["CountStudies"], found["CountInstances"]

    async def test_levels(self) -> None:
        """A file, and folders of a series, a month, a study and a patient, with their files on the disk."""
        await self.fill()
        for number, (path, left) in enumerate(
            (
                ("/by-uids/1.2.1/1.2.1.1/1.2.1.1.1.dcm", (2, 2, 3)),
                ("/by-studies/P1%20-%20DOE%20JOHN%20-%20HEAD/MR%20-%20SAG/", (2, 2, 2)),
                ("/by-dates/2025/2025-06", (1, 1, 1)),
                ("/by-patients/P1%20-%20DOE%20JOHN", (0, 0, 0)),
            )
        ):
            self.assertEmpty(await self.dav("DELETE", path), 204)
            self.assertEqual(await self.counts(), left, path)
            self.assertEqual(len(self.files()), left[2], number)
        await self.fill()
        self.assertEmpty(await self.dav("DELETE", "/by-dates/2024"), 204)
        self.assertEqual(await self.counts(), (1, 1, 1))

    async def test_nothing(self) -> None:
        """What stands for nothing: no complaint. The folders that are always there: refused."""
        await self.fill()
        for path in ("/by-uids/9", "/by-uids/1.2.1/study.json", "/by-dates/1999", "/by-patients/x/y/z"):
            self.assertEmpty(await self.dav("DELETE", path), 204)
        for path in ("", "/", "/by-uids", "/by-dates/", "/uploads", "/x", "/x/y"):
            self.assertEmpty(await self.dav("DELETE", path), 403)
        self.assertEqual(await self.counts(), (2, 2, 4))

    async def test_not_allowed(self) -> None:
        """Without ``WebDavDeleteAllowed``, which is off by default, and with ``ReadOnly``, nothing is deleted."""
        await self.fill()
        for settings in ({"WebDavDeleteAllowed": False}, {"ReadOnly": True}):
            await self.restart(**settings)
            for path in ("", "/by-uids/1.2.1", "/uploads/x", "/x"):
                self.assertEmpty(await self.dav("DELETE", path), 403)
            self.assertEqual(await self.counts(), (2, 2, 4))


class ListingTests(TestCase):
    """Names that are kept."""

    def setUp(self) -> None:
        self.ids: list[str] = []
        self.asked: list[int] = []

    async def identify(self) -> list[str]:
        return list(self.ids)

    async def describe(self, public_ids: object) -> list[Named]:
        assert isinstance(public_ids, list)
        self.asked.append(len(public_ids))
        return [Named(public_id, "same") for public_id in public_ids if public_id != "nameless"]

    def make(self) -> Listing:
        return Listing(self.identify, self.describe)

    async def test_growth(self) -> None:
        """Only what is new is read, a bounded number at a time; names stay with those that have them."""
        self.ids = [str(number) for number in range(250)]
        listing = self.make()
        self.assertEqual(len(await listing.names()), 250)
        self.assertEqual(self.asked, [100, 100, 50])
        self.ids.append("nameless")
        self.ids.append("new")
        self.assertEqual(await listing.find("same (250)"), "new")
        await listing.refresh()
        self.assertEqual(self.asked, [100, 100, 50, 2])
        listing.forget("1")
        listing.forget("nameless")
        listing.forget("unknown")
        self.ids.remove("1")
        self.ids.remove("nameless")
        self.assertEqual(await listing.find("same (2)"), "2")
        self.assertIsNone(await listing.find("same (1)"))
        self.assertEqual(len(listing), 250)

    async def test_kept(self) -> None:
        """A listing is kept for a minute, loses what is deleted, and makes room for others."""
        clock = Clock()
        kept = Listings(clock.seconds)
        self.ids = ["a", "b"]
        first = kept.get(("v", ""), self.make)
        await first.refresh()
        kept.changed(Change(change_type=ChangeType.NEW_STUDY, level=ResourceLevel.STUDY, public_id="a", date=""))
        self.assertEqual(len(first), 2)
        kept.changed(Change(change_type=ChangeType.DELETED, level=ResourceLevel.STUDY, public_id="a", date=""))
        self.assertEqual(len(first), 1)
        self.assertIs(kept.get(("v", ""), self.make), first)
        clock.advance(listings._LIFETIME + 1)
        second = kept.get(("v", ""), self.make)
        self.assertIsNot(second, first)
        for number in range(listings._FOLDERS_KEPT):
            kept.get(("v", str(number)), self.make)
        self.assertIsNot(kept.get(("v", ""), self.make), second)
