"""Reading configuration: JSON with comments, variables, files and folders, samples and documentation."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from orthanctw.configuration import load, mac_addresses
from orthanctw.errors import ConfigurationError, OrthancError
from orthanctw.settings import SECTIONS, Orthanctw, Sample, Settings, options_of
from orthanctw.settings.commented_json import MAXIMUM_DEPTH, decode, parse, substitute
from orthanctw.settings.sample import sample_configuration

ROOT = Path(__file__).resolve().parent.parent
#: Texts without halves of surrogate pairs.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))

#: What a Linux distribution puts into its folder of configuration files, in other words.
DISTRIBUTION = {
    "credentials.json": """{
  /** Readable by the server only. **/
  // Users and passwords.
  "RegisteredUsers" : {
    // "somebody" : "secret"
  }
}
""",
    "orthanc.json": """{
  /** Paths of the distribution. **/
  "Name" : "Orthanc",
  "StorageDirectory" : "/var/lib/orthanc/db-v6",
  "IndexDirectory" : "/var/lib/orthanc/db-v6",
  "LuaScripts" : [
  ],
  "Plugins" : [
    "/usr/share/orthanc/plugins/"
  ],
  "HttpDescribeErrors" : true,
  "HttpCompressionEnabled" : true,
  "SslCertificate" : "certificate.pem",
  "SslTrustedClientCertificates" : "trustedClientCertificates.pem",
  /**
     "AuthenticationEnabled" : false,
   **/
  "DicomServerEnabled" : true,
  "DicomModalities" : {
    // "sample" : [ "STORESCP", "127.0.0.1", 2000 ]
  },
  "OrthancPeers" : {
  },
  "UserMetadata" : {
    // "sample" : 1024
  },
  "UserContentType" : {
  },
  "Dictionary" : {
  },
  "OverwriteInstances" : false,
  "DeidentifyLogsDicomVersion" : "2021b",
  "ZipLoaderThreads": 0
}
""",
    "python.json": '{\n  "PythonScript" : "/etc/orthanc/sample.py",\n  "PythonVerbose" : false\n}\n',
    "sample.py": "# no configuration\n",
    "serve-folders.json": '{\n  "ServeFolders" : {\n    // "/doc" : "/usr/share/doc"\n  }\n}\n',
    "worklists.json": '{\n  "Worklists" : {\n    "Enable": false,\n    "Database": "/var/lib/worklists"\n  }\n}\n',
}


class CommentedJsonTests(SynchronousTestCase):
    """JSON with comments."""

    def value(self, text: str) -> object:
        return parse(text, "f").value

    def position(self, text: str, environ: dict[str, str] | None = None) -> str:
        return str(self.assertRaises(ConfigurationError, parse, text, "f", environ).problems[0])

    def test_comments_and_commas(self) -> None:
        """Comments of both kinds and trailing commas are skipped, but not inside strings."""
        text = '// a\n{ /* b\n * c **/ "k" : [ 1, -2.5e1, true, /**/ null, ], // d\n "u" : "http://x /* y */", }\n// z'
        self.assertEqual(self.value(text), {"k": [1, -25.0, True, None], "u": "http://x /* y */"})

    def test_strings(self) -> None:
        """Escapes are those of JSON; a line may end inside a string."""
        self.assertEqual(self.value(r'"\u00e9\ud83d\ude00\n\/\"\\"'), 'é😀\n/"\\')
        self.assertEqual(self.value('"a\nb\tc"'), "a\nb\tc")

    def test_byte_order_mark(self) -> None:
        """A byte order mark is skipped; what is not UTF-8 is refused with its position."""
        self.assertEqual(parse(decode(b"\xef\xbb\xbf{}", "f"), "f").value, {})
        error = self.assertRaises(ConfigurationError, decode, b"{\n  \xff}", "f")
        self.assertEqual(error.problems, ("f:2:3: not UTF-8",))

    def test_duplicate_keys(self) -> None:
        """Of equal keys the last one counts, and the path to it is warned of."""
        document = parse('{"a": [{"b": 1, "b": 2}], "a ": 1}', "f")
        self.assertEqual(document.value, {"a": [{"b": 2}], "a ": 1})
        self.assertEqual(document.warnings, ("f: a[0].b: given twice, the last one counts",))

    def test_text_after_the_end(self) -> None:
        """Text after the value is ignored with a warning."""
        document = parse("{} }", "f")
        self.assertEqual(document.warnings, ("f: text after the end of the configuration is ignored",))

    def test_positions(self) -> None:
        """An error is told with file, line and column."""
        for text, problem in (
            ("", "f:1:1: value expected at the end of the file"),
            ('{\n "a" 1}', 'f:2:6: ":" expected after the key'),
            ('{"a": 1\n "b": 2}', 'f:2:2: "," or "}" expected'),
            ("{'a': 1}", 'f:1:2: key in double quotes or "}" expected'),
            ("[1 2]", 'f:1:4: "," or "]" expected'),
            ("[,]", "f:1:2: value expected"),
            ('"a', "f:1:1: string without an end"),
            ('["\\x"]', "f:1:3: unknown escape in a string"),
            ('"\\ud800"', "f:1:1: half of a surrogate pair in a string"),
            ("{ /* x", "f:1:3: comment without an end"),
            ("[1e999]", "f:1:2: number out of range"),
            ("-", "f:1:1: malformed number"),
            ("9" * 1000, "f:1:1: malformed number"),
            ("nul", "f:1:1: value expected"),
            ("NaN", "f:1:1: value expected"),
            ("[\u0661]", "f:1:2: malformed number"),
        ):
            self.assertEqual(self.position(text), problem)

    def test_depth(self) -> None:
        """Nesting has a limit."""
        self.assertIsInstance(self.value("[" * MAXIMUM_DEPTH + "]" * MAXIMUM_DEPTH), list)
        self.assertIn("nested deeper", self.position("[" * 100000))

    def test_variables(self) -> None:
        """Variables are replaced with their value, else their default without its quotes, else nothing."""
        environ = {"FOO": "foo", "A-B": "ab", "a.b": "dot", "EMPTY": ""}
        for text, expected in (
            ("${FOO}|${FOO:-x}|${NO:-x y}|${NO}|${NO:-}|$FOO", "foo|foo|x y|||$FOO"),
            ("${A-B:-q}|${A-B}|${a.b}", "ab|ab|dot"),
            ("${NO:-'q'}|${NO:-\"q\"}|${NO:-a:b}|${NO:-a}b}", "q|q|a:b|ab}"),
            ("${EMPTY:-x}|${}|${", "|${}|${"),
        ):
            self.assertEqual(substitute(text, environ).text, expected)

    def test_variables_are_values(self) -> None:
        """A variable stands for any part of the text, a number too; without an environment nothing is replaced."""
        self.assertEqual(parse('{"a": ${P:-8042}, "b": "${Q}"}', "f", {"Q": "${P}"}).value, {"a": 8042, "b": "${P}"})
        self.assertEqual(self.value('"${P}"'), "${P}")

    def test_positions_after_variables(self) -> None:
        """The position of an error is that in the file, whatever variables stand for."""
        environ = {"LONG": "1234567890", "LINES": "1,\n\n\n2"}
        self.assertEqual(self.position('{"a": ${LONG}, "b" 2}', environ), 'f:1:20: ":" expected after the key')
        self.assertEqual(self.position("[${LINES},\n${LONG} x]", environ), 'f:2:9: "," or "]" expected')

    @hypothesis_settings(deadline=None, max_examples=200)
    @given(st.text(alphabet='{}[]",:/*\\ \nu0123456789.eE+-trufalsn$NO\'é', max_size=40))
    def test_any_text(self, text: str) -> None:
        """Any text is parsed or refused with a position inside it."""
        try:
            parse(text, "f", {"N": "[", "O": '"'})
        except OrthancError as error:
            self.assertIsInstance(error, ConfigurationError)
            line = int(str(error.details).split(":")[1])
            self.assertTrue(1 <= line <= text.count("\n") + 1)

    @hypothesis_settings(deadline=None, max_examples=100)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**70), 2**70) | TEXTS,
            lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
            max_leaves=10,
        )
    )
    def test_any_json(self, value: object) -> None:
        """Whatever JSON is, it is read as JSON."""
        self.assertEqual(self.value(json.dumps(value, indent=1)), value)


class LoadTests(SynchronousTestCase):
    """Files and folders."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)

    def file(self, name: str, text: str) -> str:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return str(path)

    def problems(self, *paths: object) -> tuple[str, ...]:
        found = self.assertRaises(ConfigurationError, load, [str(path) for path in paths], {})
        return tuple(found.problems)

    def test_no_path(self) -> None:
        """Without a path, all is at its default below the current folder."""
        self.assertEqual(load([], {}), Settings.defaults(os.getcwd()))

    def test_file(self) -> None:
        """A file is read with its variables, and its relative paths are below its folder."""
        path = self.file("a.json", '{"HttpPort": ${P}, "LuaScripts": ["x.lua"], "HttpPort ": 1}')
        settings = load([path], {"P": "1"})
        self.assertEqual(settings.http.http_port, 1)
        self.assertEqual(settings.lua.lua_scripts, (str(self.folder / "x.lua"),))
        self.assertEqual(settings.storage.storage_directory, str(self.folder / "OrthancStorage"))

    def test_folder(self) -> None:
        """All JSON files of a folder are merged; other files and subfolders are left out."""
        self.file("a.json", '{"HttpPort": 1}')
        self.file("b.JSON", '{"Name": "b"}')
        self.file("c.txt", "{")
        self.file("d/e.json", '{"DicomPort": 3}')
        (self.folder / "f.json").mkdir()
        settings = load([str(self.folder)], {})
        self.assertEqual((settings.http.http_port, settings.general.name, settings.dicom.dicom_port), (1, "b", 4242))
        self.assertEqual(settings.storage.storage_directory, str(self.folder / "OrthancStorage"))

    def test_several_paths(self) -> None:
        """Of several paths each one has its own folder for relative paths; a file named twice is read once."""
        first = self.file("one/a.json", '{"StorageDirectory": "s"}')
        second = self.file("two/b.json", '{"IndexDirectory": "i"}')
        settings = load([first, second, str(self.folder / "one")], {})
        self.assertEqual(settings.storage.storage_directory, str(self.folder / "one" / "s"))
        self.assertEqual(settings.storage.index_directory, str(self.folder / "two" / "i"))

    def test_option_in_two_files(self) -> None:
        """An option in two files is an error that names both."""
        first, second = self.file("a.json", '{"Name": "a"}'), self.file("b.json", '{"Name": "a"}')
        self.assertEqual(self.problems(self.folder), (f"Name: given in {first} and in {second}",))

    def test_all_files_are_told_of(self) -> None:
        """What is wrong with each file is told at once."""
        first = self.file("a.json", "{\n,}")
        second = self.file("b.json", "[]")
        (self.folder / "c.json").write_bytes(b"\xff")
        missing = self.folder / "none.json"
        self.assertEqual(
            self.problems(missing, "/dev/null", self.folder),
            (
                f"{missing}: no such file or folder",
                "/dev/null: not a regular file",
                f'{first}:2:1: key in double quotes or "}}" expected',
                f"{second}:1:1: an object is needed at the top",
                f"{self.folder}/c.json:1:1: not UTF-8",
            ),
        )

    def test_impossible_path(self) -> None:
        """A path that no file can have is an error of configuration."""
        self.assertEqual(len(self.problems("a\0b")), 1)

    def test_warnings(self) -> None:
        """Warnings of the text and of the options are told together."""
        path = self.file("a.json", '{"Name": "a", "Name": "b", "Bananas": 1, "DicomServerEnabled": false}')
        settings = load([path], {})
        self.assertEqual(
            settings.warnings, (f"{path}: Name: given twice, the last one counts", "Bananas: unknown option")
        )

    def test_folder_of_a_distribution(self) -> None:
        """A folder as a distribution ships it is read, with warnings of what has no effect."""
        for name, text in DISTRIBUTION.items():
            self.file(name, text)
        settings = load([str(self.folder)], {})
        self.assertEqual(settings.storage.index_directory, "/var/lib/orthanc/db-v6")
        self.assertEqual(
            settings.warnings,
            ("Plugins: shared libraries cannot be loaded",),
        )

    def test_mac_addresses(self) -> None:
        """Hardware addresses are six pairs of hexadecimal digits, sorted."""
        found = mac_addresses()
        self.assertEqual(list(found), sorted(found))
        for address in found:
            self.assertEqual(len(bytes.fromhex(address.replace(":", ""))), 6)


class PublishedTests(SynchronousTestCase):
    """What is written from the declarations, and the files that are shipped."""

    def test_samples_load(self) -> None:
        """Each sample loads as it is, and gives the defaults."""
        for sample in (Sample.MAIN, Sample.ADVANCED):
            document = parse(sample_configuration(sample), "sample").value
            assert isinstance(document, dict)
            self.assertEqual(Settings.parse(document, "/base"), Settings.defaults("/base"))

    def test_samples_show_every_option(self) -> None:
        """Each option but those of compatibility is in one sample, in comments when it is unset."""
        samples = {sample: sample_configuration(sample) for sample in (Sample.MAIN, Sample.ADVANCED)}
        for section in (*SECTIONS.values(), Orthanctw):
            for _, declared in options_of(section):
                shown = {sample for sample, text in samples.items() if f'"{declared.name}" :' in text}
                self.assertEqual(shown, {declared.sample} - {Sample.NONE}, declared.name)

    def test_commented_examples_parse(self) -> None:
        """What samples show of unset options is of the type that the option needs."""
        for section in SECTIONS.values():
            for _, declared in options_of(section):
                if declared.default is None and declared.kind.example not in ('""', "{}"):
                    document = {declared.name: json.loads(declared.kind.example)}
                    self.assertIsInstance(Settings.parse(document, "/base"), Settings)

    def test_shipped_configuration(self) -> None:
        """The shipped file loads without a warning, beside its folder and without a DICOM server."""
        settings = load([str(ROOT / "etc" / "orthanc.json")], {})
        self.assertEqual(settings.warnings, ())
        self.assertEqual(settings.general.name, "orthanctw")
        self.assertEqual(settings.http.http_port, 8042)
        self.assertFalse(settings.dicom.dicom_server_enabled)
        self.assertEqual(os.path.normpath(settings.storage.storage_directory), str(ROOT / "OrthancStorage"))

    def test_documentation_is_up_to_date(self) -> None:
        """docs/configuration.md is what its script makes."""
        script = ROOT / "scripts" / "make_configuration_docs.py"
        spec = importlib.util.spec_from_file_location("make_configuration_docs", script)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.assertEqual((ROOT / "docs" / "configuration.md").read_text(encoding="utf-8"), module.document())
