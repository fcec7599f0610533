"""Candidates of searches, and the plans by which SQLite finds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from orthanctw.errors import ParameterOutOfRange
from orthanctw.index import journal, keyvalues, queries, removal, search
from orthanctw.index.database import SqliteIndex
from orthanctw.lookups import LabelsConstraint, Lookup, OrderForm, OrderKey, Scope
from orthanctw.model import ChangeType, Constraint, OverwriteMode, ResourceLevel
from test.index_samples import (
    ACCESSION,
    MODALITY,
    PATIENT_ID,
    PATIENT_NAME,
    SERIES_UID,
    SOP_UID,
    STUDY_DATE,
    STUDY_DESCRIPTION,
    ids,
    new_instance,
)
from test.test_index import INSTANCE, PATIENT, SERIES, STUDY, IndexTestCase


def equal(level: ResourceLevel, tag: int, *values: str) -> Constraint:
    return Constraint(tag=tag, level=level, equal=values)


def wildcard(level: ResourceLevel, tag: int, pattern: str) -> Constraint:
    return Constraint(tag=tag, level=level, wildcard=pattern)


class CandidateTests(IndexTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.objects = [
            new_instance(
                patient, study, series, name=name, study_date=date, modality=modality, description=description
            )
            for patient, study, series, name, date, modality, description in (
                ("P1", "1", "1", "DOE^JOHN", "20260101", "CT", "HEAD"),
                ("P1", "2", "1", "DOE^JOHN", "20260201", "MR", "A[B]C"),
                ("P2", "3", "1", "DOE^JANE", "20260301", "CT", "ABC"),
                ("P3", "4", "1", "SMITH", "20260401", "US", "KNEE\\FOOT"),
                ("P3", "4", "2", "SMITH", "20260401", "CT", "KNEE\\FOOT"),
            )
        ]
        for item in self.objects:
            self.store(item)

    def found(self, level: ResourceLevel, *constraints: Constraint) -> list[int]:
        """Positions in `objects` of the resources that are found."""
        known = [ids(item)[level - 1] for item in self.objects]
        resources = self.result(self.index.candidates(level, constraints))
        return [known.index(item.public_id) for item in resources]

    def test_exact_values(self) -> None:
        """One value, one of several, or none at all."""
        self.assertEqual(self.found(PATIENT, equal(PATIENT, PATIENT_ID, "P2")), [2])
        self.assertEqual(self.found(STUDY, equal(STUDY, ACCESSION, "A1", "A3", "A9")), [0, 2])
        self.assertEqual(self.found(STUDY, equal(STUDY, ACCESSION)), [])
        self.assertEqual(self.found(STUDY, equal(STUDY, PATIENT_NAME, "DOE")), [])

    def test_wildcards(self) -> None:
        """Stars and question marks match, every other character means itself."""
        for pattern, wanted in (
            ("DOE*", [0, 1, 2]),
            ("*J*N*", [0, 1, 2]),
            ("DOE^J?N?", [2]),
            ("?MITH", [3]),
            ("DOE", []),
            ("**", [0, 1, 2, 3]),
            ("SMITH", [3]),
        ):
            self.assertEqual(self.found(STUDY, wildcard(STUDY, PATIENT_NAME, pattern)), wanted, pattern)
        self.assertEqual(self.found(STUDY, wildcard(STUDY, STUDY_DESCRIPTION, "A[B]*")), [1])
        self.assertEqual(self.found(STUDY, wildcard(STUDY, STUDY_DESCRIPTION, "*[B]C")), [1])

    def test_a_pattern_of_many_stars_ends(self) -> None:
        """A pattern made to be slow is answered all the same."""
        self.store(new_instance("P4", "5", name="A" * 200))
        self.assertEqual(self.found(STUDY, wildcard(STUDY, PATIENT_NAME, "*A" * 100 + "*B")), [])

    def test_ranges(self) -> None:
        """Bounds are inclusive, and each may be absent."""
        for lower, upper, wanted in (
            ("20260201", "20260301", [1, 2]),
            (None, "20260101", [0]),
            ("20260301", None, [2, 3]),
            ("20260301", "", [2, 3]),
            (None, None, [0, 1, 2, 3]),
        ):
            constraint = Constraint(tag=STUDY_DATE, level=STUDY, lower=lower, upper=upper)
            self.assertEqual(self.found(STUDY, constraint), wanted)

    def test_parts_of_values(self) -> None:
        """A value of several parts is found by each of them, and only once."""
        self.assertEqual(self.found(STUDY, equal(STUDY, STUDY_DESCRIPTION, "FOOT", "KNEE")), [3])
        self.assertEqual(self.found(STUDY, wildcard(STUDY, STUDY_DESCRIPTION, "*")), [0, 1, 2, 3])
        self.assertEqual(self.found(SERIES, wildcard(STUDY, STUDY_DESCRIPTION, "KNEE*")), [3, 4])

    def test_constraints_of_several_levels(self) -> None:
        """Every constraint must hold, on the resource or on what is above it."""
        doe, ct = wildcard(PATIENT, PATIENT_NAME, "DOE*"), equal(SERIES, MODALITY, "CT")
        self.assertEqual(self.found(INSTANCE, doe, ct), [0, 2])
        self.assertEqual(self.found(INSTANCE, ct, doe, equal(STUDY, ACCESSION, "A3")), [2])
        sop = equal(INSTANCE, SOP_UID, "1.2.4.2.1")
        self.assertEqual(self.found(INSTANCE, sop, ct, equal(PATIENT, PATIENT_ID, "P3")), [4])
        self.assertEqual(self.found(INSTANCE, sop, equal(PATIENT, PATIENT_ID, "P1")), [])
        self.failureResultOf(self.index.candidates(STUDY, [ct]), ParameterOutOfRange)

    def test_no_constraint(self) -> None:
        """Everything of the level is a candidate."""
        self.assertEqual(self.found(SERIES), [0, 1, 2, 3, 4])

    def test_identifiers(self) -> None:
        """The resource of a level whose search tag has a value."""
        self.assertEqual(self.found(SERIES, equal(SERIES, SERIES_UID, "1.2.3.1")), [2])
        self.assertEqual(self.found(STUDY, equal(STUDY, SERIES_UID, "1.2.3.1")), [])

    def ids_of(self, lookup: Lookup) -> list[int]:
        """Positions in `objects` of a page of what is looked up; its rows are the same resources."""
        known = [ids(item)[lookup.level - 1] for item in self.objects]
        found = [known.index(item) for item in self.result(self.index.look_up_ids(lookup))]
        looked_up = self.result(self.index.look_up_rows(lookup, 2))
        self.assertEqual([known.index(item.public_id) for item in looked_up.first], found[:2])
        resources = self.result(self.index.resources_of_rows([*looked_up.rows, 12345]))
        self.assertEqual([known.index(item.public_id) for item in resources], found)
        return found

    def test_orders(self) -> None:
        """Values of tags and metadata of any level, from whatever the search starts."""
        name = OrderKey(level=STUDY, tag=PATIENT_NAME, is_identifier=True)
        modality = OrderKey(level=SERIES, tag=MODALITY, descending=True)
        doe = (wildcard(STUDY, PATIENT_NAME, "DOE*"),)
        rows = tuple(self.result(self.index.look_up_rows(Lookup(level=PATIENT), 0)).rows)
        for order, expected in (
            ((name, modality), [2, 1, 0, 3, 4]),
            ((attrs.evolve(name, descending=True), modality), [3, 4, 1, 0, 2]),
            ((modality, name), [3, 1, 2, 0, 4]),
        ):
            for level in (SERIES, INSTANCE):
                self.assertEqual(self.ids_of(Lookup(level=level, order=order)), expected)
                self.assertEqual(self.ids_of(Lookup(level=level, order=order, since=1, limit=2)), expected[1:3])
                scope = Scope(level=PATIENT, rows=rows[1:])
                self.assertEqual(
                    self.ids_of(Lookup(level=level, order=order, scope=scope)), [n for n in expected if n > 1]
                )
                self.assertEqual(
                    self.ids_of(Lookup(level=level, order=order, constraints=doe)), [n for n in expected if n < 3]
                )
                self.assertEqual(
                    self.ids_of(Lookup(level=level, order=order, constraints=doe, scope=scope)), [2]
                )

    def test_texts_that_look_like_json(self) -> None:
        """Brackets, commas and backslashes of a value are parts of it, whatever the JSON around it."""
        values = ["[524384,", "]", "\\a", "a", "a],", "a]", "a\\b", "ab", "é", ""]
        self.objects = [new_instance("P9", f"9{number}", modality=value) for number, value in enumerate(values)]
        for item in self.objects:
            self.store(item)
        scope = Scope(level=PATIENT, rows=(self.result(self.index.look_up_rows(Lookup(level=PATIENT), 0)).rows[-1],))
        found = self.ids_of(Lookup(level=SERIES, scope=scope, order=(OrderKey(level=SERIES, tag=MODALITY),)))
        self.assertEqual([values[number] for number in found], sorted(values, key=str.encode))

    def test_counts(self) -> None:
        """The number of what is found."""
        for lookup, count in (
            (Lookup(level=SERIES), 5),
            (Lookup(level=SERIES, limit=2), 5),
            (Lookup(level=SERIES, constraints=(wildcard(STUDY, PATIENT_NAME, "DOE*"),)), 3),
            (Lookup(level=STUDY, labels=("a",)), 0),
            (Lookup(level=STUDY, scope=Scope(level=STUDY, rows=())), 0),
            (Lookup(level=STUDY, scope=Scope(level=SERIES, rows=(1, 2, 3))), 0),
        ):
            self.assertEqual(self.result(self.index.count(lookup)), count)

    def test_many_values(self) -> None:
        """A list longer than SQLite has parameters is one look-up."""
        values = [f"X{number}" for number in range(40000)] + ["A2"]
        self.assertEqual(self.found(STUDY, equal(STUDY, ACCESSION, *values)), [1])


class PlanTests(IndexTestCase):
    """No hot statement looks at all rows of a table that grows with the instances."""

    def plans(self, work: Callable[[SqliteIndex], Any]) -> list[str]:
        """The query plan of every statement of `work`."""
        statements: list[str] = []
        connection = self.result(self.index._write(lambda transaction: transaction.connection))
        connection.set_trace_callback(statements.append)
        try:
            work(self.index)
        finally:
            connection.set_trace_callback(None)
        plans = []
        for statement in dict.fromkeys(statements):
            if statement.split()[0] in ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH"):
                rows = connection.execute("EXPLAIN QUERY PLAN " + statement).fetchall()
                plans.append(statement + "\n" + "\n".join(str(row[3]) for row in rows))
        return plans

    def assert_no_scan(self, plans: list[str]) -> None:
        self.assertTrue(plans)
        grown = ("resources", "details", "attachments", "search", "labels", "changes", "exports")
        aliases = (*"rpcsdahbtow", *(f"{x}{n}" for x in "cru" for n in range(1, 5)))
        for plan in plans:
            for line in plan.splitlines():
                words = line.strip().split()
                if words[:1] != ["SCAN"] or words[1] not in (*grown, *aliases):
                    continue
                # The logs are walked along their row numbers, from a given one on.
                if words[1] in ("c", "exports") and "seq" in plan:
                    continue
                # Instances, most of the rows, are listed along their row numbers.
                if words[1] == "resources" and "WHERE level = 4 ORDER BY id LIMIT" in plan:
                    continue
                self.fail(plan)

    def test_writes(self) -> None:
        """Storing, overwriting, recycling, deleting and logging are look-ups."""

        def work(index: SqliteIndex) -> None:
            for options in ({}, {"instance": "2"}, {"overwrite": OverwriteMode.ALWAYS}):
                self.store(new_instance(expected="2", **options))  # type: ignore[arg-type]
            self.result(index._write(removal.delete_many, [ids(new_instance())[3]]))
            self.result(index.add_label(STUDY, ids(new_instance())[1], "a"))
            self.result(index.set_metadata(STUDY, ids(new_instance())[1], 1024, "a", None, False))
            self.result(index.delete(STUDY, ids(new_instance())[1]))

        self.assert_no_scan(self.plans(work))

    def test_reads(self) -> None:
        """Reading resources, their surroundings and the logs are look-ups."""
        patient, study, series, instance = ids(new_instance())
        self.store(new_instance())
        calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
            (queries.resource, (INSTANCE, instance)),
            (queries.resources, (INSTANCE, [instance])),
            (queries.expand, (SERIES, [series, series], True, True, True)),
            (queries.children, (PATIENT, patient, INSTANCE)),
            (queries.children_resources, (STUDY, study, INSTANCE)),
            (queries.ancestor, (INSTANCE, instance, PATIENT)),
            (queries.ancestors, (INSTANCE, [instance], PATIENT)),
            (queries.first_instance, (PATIENT, patient)),
            (queries.headers, ([instance],)),
            (queries.attachments, (INSTANCE, instance)),
            (queries.instance_attachments, ([instance],)),
            (queries.all_labels, ()),
            (queries.list_ids, (INSTANCE, 0, 10)),
            (queries.list_resources, (INSTANCE, 0, 10)),
            (queries.list_ids, (SERIES, 0, 10)),
            (queries.list_resources, (STUDY, 0, 10)),
            (queries.resource_statistics, (PATIENT, patient)),
            (queries.lookup_level, (instance,)),
            (journal.changes, (5, 10, None, frozenset({ChangeType.STABLE_STUDY}))),
            (journal.changes, (None, 10, 50, frozenset())),
            (journal.last_change, ()),
            (keyvalues.known_files, (["x"],)),
        ]

        def work(index: SqliteIndex) -> None:
            for function, args in calls:
                self.result(index._write(lambda t, f=function, a=args: f(t.connection, *a)))

        self.assert_no_scan(self.plans(work))

    def test_searches(self) -> None:
        """Each kind of constraint starts from the index of values."""
        self.store(new_instance())
        narrow = equal(STUDY, ACCESSION, "A1")
        cases = [
            (STUDY, [narrow]),
            (STUDY, [equal(STUDY, ACCESSION, "A1", "A2")]),
            (STUDY, [wildcard(STUDY, PATIENT_NAME, "DOE*")]),
            (STUDY, [Constraint(tag=STUDY_DATE, level=STUDY, lower="2025", upper="2027")]),
            (INSTANCE, [equal(SERIES, MODALITY, "CT"), wildcard(PATIENT, PATIENT_NAME, "*O*"), narrow]),
        ]

        def work(index: SqliteIndex) -> None:
            for level, constraints in cases:
                self.result(
                    index._write(lambda t, level=level, c=constraints: search.candidates(t.connection, level, c))
                )

        plans = self.plans(work)
        self.assert_no_scan(plans)
        self.assertEqual(sum("INDEX search_value (tag=? AND value" in plan for plan in plans), 7)

    def test_lookups(self) -> None:
        """A scope, labels, and an order with a limit are walks along an index."""
        self.store(new_instance())
        identifier = OrderKey(level=INSTANCE, tag=SOP_UID, is_identifier=True)
        above = OrderKey(level=SERIES, tag=MODALITY)
        cases = [
            Lookup(level=INSTANCE, scope=Scope(level=PATIENT, rows=(1,)), order=(above,)),
            Lookup(level=INSTANCE, order=(identifier,), limit=1),
            Lookup(level=INSTANCE, order=(above,), limit=10),
            Lookup(level=STUDY, labels=("a",)),
            Lookup(level=SERIES, labels=("a", "b"), labels_constraint=LabelsConstraint.ANY),
            Lookup(level=STUDY, order=(OrderKey(level=STUDY, metadata=7, form=OrderForm.INTEGER),)),
        ]

        def work(index: SqliteIndex) -> None:
            for lookup in cases:
                self.result(index._write(lambda t, lookup=lookup: search.look_up_ids(t.connection, lookup)))
                self.result(index._write(lambda t, lookup=lookup: search.look_up_rows(t.connection, lookup, 5)))

        self.assert_no_scan(self.plans(work))

    def test_the_check_sees_a_scan(self) -> None:
        """A statement without an index fails the check of this class."""
        plans = self.plans(
            lambda index: self.result(
                index._write(lambda t: t.execute("SELECT id FROM resources r WHERE last_update = 'x'").fetchall())
            )
        )
        with self.assertRaises(self.failureException):
            self.assert_no_scan(plans)
