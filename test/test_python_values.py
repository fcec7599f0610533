"""Scripts in Python keep values: global properties, key-value stores, queues; and decide about stability."""

from __future__ import annotations

from test.log_lines import log_lines
from test.python_case import PythonCase, example
from test.rest_samples import NOBODY, dicom_object

TRIES = """
    def tried(function, *arguments):
        try:
            return function(*arguments)
        except orthanc.OrthancException as e:
            return 'OrthancException', e.args[0]
        except Exception as e:
            return type(e).__name__
"""


class ValueTests(PythonCase):
    """Properties and key-value stores."""

    async def test_properties(self) -> None:
        """Numbers below 1024 are the server's; others outlive it."""
        script = TRIES + """
    note(orthanc.GetGlobalProperty(1024, 'none'), tried(orthanc.GetGlobalProperty, 1, 'none'))
    note(tried(orthanc.SetGlobalProperty, 1023, 'a'), tried(orthanc.SetGlobalProperty, 1024, 'é'))
    note(orthanc.GetGlobalProperty(1024, 'none'), tried(orthanc.SetGlobalProperty, 1024, 5))
    """
        await self.start_scripts(script)
        await self.start_scripts("note(orthanc.GetGlobalProperty(1024, ''))")
        expected = [["none", "none"], [["OrthancException", 26], None], ["é", "TypeError"], ["é"]]
        self.assertEqual(self.noted(), expected)

    async def test_stores(self) -> None:
        """Values are bytes; stores do not see each other's keys, and outlive the server."""
        await self.start_scripts(
            TRIES
            + """
    orthanc.StoreKeyValue('a', 'k', b'\\0\\xff')
    orthanc.StoreKeyValue('a', 'l', 'text')
    orthanc.StoreKeyValue('b', 'k', None)
    orthanc.StoreKeyValue('a', 'm', b'm')
    orthanc.DeleteKeyValue('a', 'm')
    orthanc.DeleteKeyValue('a', 'm')
    note(tried(orthanc.StoreKeyValue, 'a', 'k'), tried(orthanc.GetKeyValue, 'a', 5))
    """
        )
        await self.start_scripts(
            "note(*(repr(orthanc.GetKeyValue(store, key)) for store in 'ab' for key in 'klm'))"
        )
        expected = [repr(value) for value in (b"\0\xff", b"text", None, b"", None, None)]
        self.assertEqual(self.noted(), [["TypeError", "TypeError"], expected])

    async def test_iterator(self) -> None:
        """All keys in order, in several batches; what is deleted meanwhile is left out."""
        await self.start_scripts(
            TRIES
            + """
    for number in range(250):
        orthanc.StoreKeyValue('s', '%03d' % number, str(number))
    iterator = orthanc.CreateKeysValuesIterator('s')
    note(type(iterator) is orthanc.KeysValuesIterator, iterator.GetKey(), tried(iterator.GetValue))
    found = []
    while iterator.Next():
        found.append((iterator.GetKey(), iterator.GetValue().decode()))
        if len(found) == 3:
            orthanc.DeleteKeyValue('s', '004')
            orthanc.DeleteKeyValue('s', '200')
    note(found == [('%03d' % number, str(number)) for number in range(250) if number not in (4, 200)])
    note(iterator.Next(), iterator.GetKey(), orthanc.CreateKeysValuesIterator('none').Next())
    """
        )
        self.assertEqual(self.noted(), [[True, None, ["OrthancException", 6]], [True], [False, None, False]])

    async def test_example(self) -> None:
        """That of the documentation: a study that is stable is taken from a queue, and noted in a store."""
        log = log_lines(self, self.levels)
        await self.start_scripts(example("Key-value stores and queues"), StableAge=1)
        study = (await self.client.store(dicom_object()))["ParentStudy"]
        await self.until(lambda: f"Study {study} is reported" in log.getvalue())
        await self.start_scripts(
            f"note(orthanc.GetKeyValue('reported', '{study}').decode(), orthanc.GetQueueSize('to-report'))"
        )
        self.assertEqual(self.noted(), [["yes", 0]])

    async def test_stable(self) -> None:
        """A resource is called stable or unstable: a code, and whether that was new."""
        await self.start_scripts(
            f"""
            STABLE, UNSTABLE = orthanc.StableStatus.STABLE, orthanc.StableStatus.UNSTABLE

            def changed(change, level, resource):
                if change == orthanc.ChangeType.NEW_STUDY:
                    note(*(orthanc.SetStableStatus(resource, status) for status in (STABLE, STABLE, UNSTABLE, STABLE)))
                if change == orthanc.ChangeType.NEW_INSTANCE:
                    note(orthanc.SetStableStatus(resource, STABLE))
                if change == orthanc.ChangeType.STABLE_STUDY:
                    note('stable', resource)

            orthanc.RegisterOnChangeCallback(changed)
            note(orthanc.SetStableStatus('{NOBODY}', STABLE), orthanc.SetStableStatus('{NOBODY}', 2))
            """
        )
        study = (await self.client.store(dicom_object()))["ParentStudy"]
        told = ["stable", study]
        await self.until(lambda: self.noted().count(told) == 2)
        expected = [[[17, 0], [3, 0]], [[8, 0]], [[0, 1], [0, 0], [0, 1], [0, 1]], told, told]
        self.assertEqual(self.noted(), expected)


class QueueTests(PythonCase):
    """Queues."""

    async def test_queues(self) -> None:
        """Values leave at the front or at the back, each once, also after a new start."""
        await self.start_scripts(
            "for value in (b'1', b'2', b'3', b''): orthanc.EnqueueValue('q', value)\n"
            "note(orthanc.GetQueueSize('q'), orthanc.GetQueueSize('none'))"
        )
        await self.start_scripts(
            TRIES
            + """
    front, back = orthanc.QueueOrigin.FRONT, orthanc.QueueOrigin.BACK
    note(*(repr(orthanc.DequeueValue('q', origin)) for origin in (front, back, back, front, front)))
    note(tried(orthanc.DequeueValue, 'q', 2), tried(orthanc.DequeueValue, 'q', 'a'))
    """
        )
        expected = [repr(value) for value in (b"1", b"", b"3", b"2", None)]
        self.assertEqual(self.noted(), [[4, 0], expected, [["OrthancException", 3], "TypeError"]])

    async def test_reserved(self) -> None:
        """A reserved value is nobody else's until its time is over or it is acknowledged."""
        await self.start_scripts(
            TRIES
            + """
    front, back = orthanc.QueueOrigin.FRONT, orthanc.QueueOrigin.BACK
    orthanc.EnqueueValue('q', b'1')
    orthanc.EnqueueValue('q', b'2')
    first = orthanc.ReserveQueueValue('q', front, 3600)
    # Its time is over at once.
    second = orthanc.ReserveQueueValue('q', back, 0)
    again = orthanc.ReserveQueueValue('q', front, 3600)
    note(first[0].decode(), second == again, orthanc.ReserveQueueValue('q', front, 1), orthanc.GetQueueSize('q'))
    note(orthanc.DequeueValue('q', front), tried(orthanc.ReserveQueueValue, 'q', front, -1))
    orthanc.AcknowledgeQueueValue('q', first[1])
    orthanc.AcknowledgeQueueValue('other', second[1])
    note(orthanc.GetQueueSize('q'))
    """
        )
        self.assertEqual(
            self.noted(), [["1", True, [None, None], 2], [None, ["OrthancException", 3]], [1]]
        )

    async def test_together(self) -> None:
        """Threads that reserve and acknowledge at once get each value once."""
        await self.start_scripts(
            """
            import threading
            for number in range(40):
                orthanc.EnqueueValue('q', str(number))
            taken = []

            def work():
                while True:
                    value, number = orthanc.ReserveQueueValue('q', orthanc.QueueOrigin.FRONT, 3600)
                    if number is None:
                        return
                    taken.append(int(value))
                    orthanc.AcknowledgeQueueValue('q', number)

            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            note(sorted(taken) == list(range(40)), orthanc.GetQueueSize('q'))
            """
        )
        self.assertEqual(self.noted(), [[True, 0]])
