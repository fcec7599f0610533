"""Who may do what and which objects are received: the decisions alone, and their routes."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from orthanctw.acceptance import Acceptance, Operation
from orthanctw.dicom.uids import STORAGE_SOP_CLASSES, TRANSFER_SYNTAX_GROUPS, TRANSFER_SYNTAXES
from orthanctw.settings import Settings
from test.rest_samples import RestCase

CT, MR, UNKNOWN = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.3.4"
EXPLICIT, IMPLICIT, RLE, JPEG = (
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.4.50",
)


def acceptance(**options: Any) -> Acceptance:
    """Of a configuration with these options."""
    settings = Settings.parse(options, "/")
    return Acceptance(settings.dicom, lambda: settings.network.dicom_modalities)


class TransferSyntaxTest(SynchronousTestCase):
    """Transfer syntaxes."""

    def test_default(self) -> None:
        """All that are known are accepted."""
        self.assertEqual(acceptance().transfer_syntaxes, frozenset(TRANSFER_SYNTAXES))

    def test_patterns(self) -> None:
        """Stars and question marks are wildcards, nothing else is, and what nobody knows is left out."""
        for patterns, expected in (
            ([IMPLICIT], {IMPLICIT}),
            (IMPLICIT, {IMPLICIT}),
            (["1.2.840.10008.1.2.?"], {EXPLICIT, "1.2.840.10008.1.2.2", RLE}),
            ([JPEG, "1.2.3.4"], {JPEG}),
            (["1.2.840.10008.1.2.4.9?"], {f"1.2.840.10008.1.2.4.9{i}" for i in range(6)}),
            ([], set()),
        ):
            self.assertEqual(acceptance(AcceptedTransferSyntaxes=patterns).transfer_syntaxes, expected)

    def test_groups(self) -> None:
        """Each option of a group adds its members to the list, or takes them out, and touches no other."""
        for group, members in TRANSFER_SYNTAX_GROUPS.items():
            option = f"{group}TransferSyntaxAccepted"
            with_group = acceptance(**{"AcceptedTransferSyntaxes": [IMPLICIT], option: True})
            self.assertEqual(with_group.transfer_syntaxes, {IMPLICIT, *members}, group)
            without = acceptance(**{option: False})
            self.assertEqual(without.transfer_syntaxes, set(TRANSFER_SYNTAXES) - set(members), group)

    def test_a_star_in_the_middle(self) -> None:
        """A pattern of many stars is decided at once."""
        checked = acceptance()
        checked.set_transfer_syntaxes(["*1" * 40 + "x", "*2.5"])
        self.assertEqual(checked.transfer_syntaxes, {RLE})

    def test_brackets(self) -> None:
        """Brackets are no wildcards."""
        checked = acceptance()
        checked.set_transfer_syntaxes(["1.2.840.10008.1.2.[15]"])
        self.assertEqual(checked.transfer_syntaxes, frozenset())


class SopClassTest(SynchronousTestCase):
    """Storage SOP classes."""

    def accepted(self, *uids: str, **options: Any) -> list[bool]:
        checked = acceptance(**options)
        return [checked.accepts_storage_of(uid) for uid in uids]

    def test_default(self) -> None:
        """The standard's are accepted, unknown ones and other services are not."""
        self.assertEqual(self.accepted(CT, MR, UNKNOWN, "1.2.840.10008.1.1", ""), [True, True, False, False, False])
        self.assertEqual(acceptance().sop_classes, STORAGE_SOP_CLASSES)

    def test_unknown(self) -> None:
        """``UnknownSopClassAccepted`` accepts what nobody knows, but no service of another kind."""
        services = (
            "1.2.840.10008.1.1",
            "1.2.840.10008.1.20.1",
            "1.2.840.10008.5.1.4.1.2.2.1",
            "1.2.840.10008.5.1.4.1.2.3.3",
            "1.2.840.10008.5.1.4.31",
            "1.2.840.10008.5.1.4.32.1",
            "1.2.840.10008.5.1.1.9",
            "1.2.840.10008.3.1.2.3.3",
        )
        accepted = self.accepted(UNKNOWN, "1.2.840.10008.5.1.4.1.1.999", *services, UnknownSopClassAccepted=True)
        self.assertEqual(accepted, [True, True, *[False] * len(services)])

    def test_accepted(self) -> None:
        """``AcceptedSopClasses`` replaces the standard's list: patterns select from it, UIDs need not be in it."""
        self.assertEqual(
            self.accepted(CT, MR, UNKNOWN, AcceptedSopClasses=["1.2.840.10008.5.1.4.1.1.2", UNKNOWN]),
            [True, False, True],
        )
        self.assertEqual(self.accepted(CT, MR, UNKNOWN, AcceptedSopClasses=["1.2.840.*"]), [True, True, False])
        self.assertEqual(self.accepted(CT, MR, AcceptedSopClasses=[]), [False, False])

    def test_rejected(self) -> None:
        """``RejectedSopClasses`` wins over everything else; so does the name that it once had."""
        for option in ("RejectedSopClasses", "RejectSopClasses"):
            checked = self.accepted(
                CT, MR, UNKNOWN, AcceptedSopClasses=[CT, MR, UNKNOWN], **{option: [MR, "1.2.3.*"]}
            )
            self.assertEqual(checked, [True, False, False], option)
        self.assertEqual(
            self.accepted(MR, UNKNOWN, UnknownSopClassAccepted=True, RejectedSopClasses=[MR, UNKNOWN]), [False, False]
        )


class PermissionTest(SynchronousTestCase):
    """Remote application entities."""

    MODALITIES = (("a", ("ONE", "10.0.0.1", 104)), ("b", ("ONE", "10.0.0.2", 104)), ("c", ("LOCAL", "localhost", 104)))

    def test_operations(self) -> None:
        """Each operation has its permission of a modality, and its option that opens it to everybody."""
        names = {
            Operation.ECHO: "AllowEcho",
            Operation.STORE: "AllowStore",
            Operation.FIND: "AllowFind",
            Operation.FIND_WORKLIST: "AllowFindWorklist",
            Operation.GET: "AllowGet",
            Operation.MOVE: "AllowMove",
            Operation.N_ACTION: "AllowNAction",
            Operation.N_EVENT_REPORT: "AllowEventReport",
        }
        closed = {"DicomAlwaysAllowEcho": False, "DicomAlwaysAllowStore": False}
        for operation, name in names.items():
            for allowed in (True, False):
                modality = {"AET": "ONE", "Host": "10.0.0.1", "Port": 104, name: allowed}
                checked = acceptance(**closed, DicomModalities={"a": modality})
                found = [each for each in Operation if checked.is_allowed(each, "ONE", "10.0.0.1")]
                self.assertEqual(found, [each for each in Operation if allowed or each is not operation], name)
                self.assertFalse(any(checked.is_allowed(each, "OTHER", "10.0.0.1") for each in Operation))
            if operation not in (Operation.N_ACTION, Operation.N_EVENT_REPORT):
                option = f"DicomAlwaysAllow{operation.value}"
                checked = acceptance(**{**closed, option: True})
                found = [each for each in Operation if checked.is_allowed(each, "OTHER", "10.0.0.1")]
                self.assertEqual(found, [operation])
                self.assertTrue(checked.may_connect("OTHER", "10.0.0.1"))

    def test_hosts(self) -> None:
        """With ``DicomCheckModalityHost`` one of the modalities of a title must have the address."""
        closed = {"DicomAlwaysAllowEcho": False, "DicomAlwaysAllowStore": False}
        modalities = {name: list(values) for name, values in self.MODALITIES}
        callers = [("ONE", "10.0.0.1"), ("ONE", "10.0.0.2"), ("ONE", "10.0.0.3"), ("LOCAL", "127.0.0.1"), ("X", "")]
        for check, expected in ((False, [True, True, True, True, False]), (True, [True, True, False, True, False])):
            checked = acceptance(**closed, DicomModalities=modalities, DicomCheckModalityHost=check)
            self.assertEqual([checked.may_connect(*caller) for caller in callers], expected)

    def test_modalities_that_change(self) -> None:
        """The modalities of the moment count."""
        settings = Settings.parse({"DicomAlwaysAllowStore": False}, "/")
        known: dict[str, Any] = {}
        checked = Acceptance(settings.dicom, lambda: known)
        self.assertFalse(checked.is_allowed(Operation.STORE, "ONE", "10.0.0.1"))
        other = Settings.parse({"DicomModalities": {"a": ["ONE", "10.0.0.1", 104]}}, "/")
        known.update(other.network.dicom_modalities)
        self.assertTrue(checked.is_allowed(Operation.STORE, "ONE", "10.0.0.1"))

    def test_called_title(self) -> None:
        """Our own title is compared when that is asked for."""
        self.assertTrue(acceptance().is_called("ANY"))
        checked = acceptance(DicomCheckCalledAet=True, DicomAet="us")
        self.assertEqual([checked.is_called(title) for title in ("us", "US", "them")], [True, True, False])


class RouteTest(RestCase):
    """``/tools/accepted-transfer-syntaxes`` and its company."""

    async def test_transfer_syntaxes(self) -> None:
        """The list is answered in the standard's order, and replaced by UIDs and patterns."""
        listed = await self.client.json("/tools/accepted-transfer-syntaxes")
        self.assertEqual(listed[:5], [IMPLICIT, EXPLICIT, "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2", JPEG])
        self.assertEqual(sorted(listed), sorted(TRANSFER_SYNTAXES))
        for body, expected in (
            ([IMPLICIT], [IMPLICIT]),
            (["1.2.840.10008.1.2.?"], [EXPLICIT, "1.2.840.10008.1.2.2", RLE]),
            (["1.2.3.4", "nonsense"], []),
            (["*"], listed),
        ):
            answer = await self.client.ask("PUT", "/tools/accepted-transfer-syntaxes", body)
            self.assertEqual((answer.status, answer.json()), (200, expected))
            self.assertEqual(await self.client.json("/tools/accepted-transfer-syntaxes"), expected)

    async def test_bad_transfer_syntaxes(self) -> None:
        """What is no array of texts is refused, and changes nothing."""
        before = await self.client.json("/tools/accepted-transfer-syntaxes")
        for body in (IMPLICIT, "{}", "[1]", "[", "", "null", '[["1.2"]]'):
            answer = await self.client.ask("PUT", "/tools/accepted-transfer-syntaxes", body)
            self.assertError(answer, 400, 15)
        self.assertEqual(await self.client.json("/tools/accepted-transfer-syntaxes"), before)

    async def test_sop_classes(self) -> None:
        """The storage classes that are accepted are listed."""
        self.assertEqual(await self.client.json("/tools/accepted-sop-classes"), sorted(STORAGE_SOP_CLASSES))

    async def test_unknown_sop_class(self) -> None:
        """The option is read and set as 0 or 1."""
        for body, expected in (("1", "1"), ("0", "0"), ("true", "1"), ("1\n", "1"), ("false", "0")):
            answer = await self.client.ask("PUT", "/tools/unknown-sop-class-accepted", body)
            self.assertEmpty(answer, 200)
            self.assertEqual((await self.client.get("/tools/unknown-sop-class-accepted")).text, expected)
        for body in ("", "2", "yes", "11"):
            self.assertError(await self.client.ask("PUT", "/tools/unknown-sop-class-accepted", body), 400, 15)
        self.assertEqual((await self.client.get("/tools/unknown-sop-class-accepted")).text, "0")
