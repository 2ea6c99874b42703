"""YAML text becomes nodes with places, within limits."""

# ruff: noqa: E501 - expected messages stand in one piece

import time
import tracemalloc

import pytest

from reconciler.spec import yaml_text
from reconciler.spec.yaml_text import (
    ALIASES_MAX,
    DEPTH_MAX,
    DOCUMENTS_MAX,
    FILE_BYTES_MAX,
    NODES_MAX,
    PROBLEMS_MAX,
    SCALAR_CHARACTERS_MAX,
    Mark,
    load,
)

MEGABYTE = 1_000_000


def told(content: bytes | str) -> list[str]:
    return [
        str(problem)
        for problem in load("f.yaml", content.encode() if isinstance(content, str) else content).problems
    ]


def plain(content: str) -> object:
    loaded = load("f.yaml", content.encode())
    assert loaded.problems == ()
    (document,) = loaded.documents
    return document.plain()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None), ("~", None), ("", None), ("true", True), ("False", False),
        ("1", 1), ("-7", -7), ("+1", 1), ("0", 0), ("0x1F", 31), ("0o17", 15),
        ("1.5", 1.5), (".5", 0.5), ("1e3", 1000.0), ("-.inf", float("-inf")),
        ("no", "no"), ("off", "off"), ("y", "y"), ("012", "012"), ("1:30", "1:30"), ("1_000", "1_000"),
        ("0b1", "0b1"), ("2020-01-01", "2020-01-01"), ("=", "="), ("1.2.0", "1.2.0"),
        ("'1'", "1"), ('"true"', "true"), ("|\n  1\n", "1\n"), ("9" * 100, "9" * 100),
    ],
)  # fmt: skip
def test_scalars_follow_the_core_schema_without_surprises(text: str, value: object) -> None:
    """Only what YAML 1.2 calls null, true, false and numbers is not a string."""
    assert plain(f"a: {text}") == {"a": value}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3", "f.yaml:3:1: duplicate key 'a' (the first one is on line 1)"),
        ("x:\n  - {a: 1, a: 2}", "f.yaml:2:12: x[0]: duplicate key 'a' (the first one is on line 2)"),
        ("a: 1\r\na: 2\r\n", "f.yaml:2:1: duplicate key 'a' (the first one is on line 1)"),
        ("1: x", "f.yaml:1:1: a key must be a string, not a number (put it in quotes)"),
        ("true: x", "f.yaml:1:1: a key must be a string, not true or false (put it in quotes)"),
        ("~: x", "f.yaml:1:1: a key must be a string, not nothing (put it in quotes)"),
        ("[a]: x", "f.yaml:1:1: a key must be a string, not a list, mapping or alias"),
        ("a: &k b\n? *k\n: 1", "f.yaml:2:3: a key must be a string, not a list, mapping or alias"),
        ("<<: {a: 1}", "f.yaml:1:1: merge keys are not supported (write the keys out)"),
        ("a: !!str 1", "f.yaml:1:4: a: tags are not supported (remove the tag)"),
        ("a: !x [1]", "f.yaml:1:4: a: tags are not supported (remove the tag)"),
        ("%TAG !a! tag:x\n---\na: 1", "f.yaml:1:1: %TAG directives are not supported (remove them)"),
        ("a: *b", "f.yaml:1:4: a: the alias has no anchor before it (a value that starts with * needs quotes)"),
        ("&a [*a]", "f.yaml:1:5: [0]: the alias stands inside its own anchor"),
        (
            "a:\n\t- b",
            ("f.yaml:2:1: not valid YAML: found character that cannot start any token, "
            "while scanning for the next token (indent with spaces, not tabs)"),
        ),
        (
            "to: @v1",
            ("f.yaml:1:5: not valid YAML: found character that cannot start any token, "
            "while scanning for the next token (a value that starts with @ needs quotes)"),
        ),
        (
            "a: 1\nb:\n - c\n d: 1",
            "f.yaml:4:2: b: not valid YAML: did not find expected '-' indicator, while parsing a block collection from line 3",
        ),
        ('a: "\\ud800"', "f.yaml:1:7: not valid YAML: found invalid Unicode character escape code, while parsing a quoted scalar"),
        (b"a: 1\nbb: x\xff", "f.yaml:2:6: byte 0xff is not UTF-8 (save the file as UTF-8)"),
        ("\xe9\xe9: ".encode() + b"\xc3(", "f.yaml:1:5: byte 0xc3 is not UTF-8 (save the file as UTF-8)"),
        ("a: 1".encode("utf-16"), "f.yaml:1:1: the file is UTF-16 or UTF-32 (save it as UTF-8)"),
        ("a: 1".encode("utf-32"), "f.yaml:1:1: the file is UTF-16 or UTF-32 (save it as UTF-8)"),
        (
            "a: 1\r\nb: \x00",
            ("f.yaml:2:4: control character U+0000 is not allowed in YAML text "
            "(remove it, or write it as an escape in double quotes)"),
        ),
        (
            "a: " + "x" * (SCALAR_CHARACTERS_MAX + 1),
            f"f.yaml:1:4: a: a value of {SCALAR_CHARACTERS_MAX + 1} characters, more than the limit of {SCALAR_CHARACTERS_MAX}",
        ),
    ],
)  # fmt: skip
def test_bad_text_is_told_at_its_place(text: bytes | str, expected: str) -> None:
    """Each mistake in the text is one message with line and column."""
    assert told(text) == [expected]


def test_a_byte_order_mark_is_not_part_of_the_text() -> None:
    """YAML allows one at the start, and columns do not count it."""
    loaded = load("f.yaml", b"\xef\xbb\xbfa: 1\n")
    assert loaded.documents[0].plain() == {"a": 1}
    assert loaded.documents[0].key_mark(("a",)) == Mark(1, 1)


def test_all_mistakes_are_told_until_the_text_cannot_be_read() -> None:
    """Mistakes that leave the structure whole do not hide each other."""
    assert len(told("a: !x 1\na: 2\n1: 2\nb: *c\n<<: 3\n")) == 5


def test_every_value_and_key_has_its_place() -> None:
    """Lines and columns are counted from 1, aliases stand where they are used, left-out values at their key."""
    loaded = load("f.yaml", "a:\nb:\n  - x\n  - é: 1\nc: &x {q: 1}\nd: *x\n".encode())
    document = loaded.documents[0]
    places = {
        path: document.mark(path) for path in [("a",), ("b", 0), ("b", 1, "é"), ("d",), ("d", "q"), ("no", 1)]
    }
    assert places == {
        ("a",): Mark(1, 3),
        ("b", 0): Mark(3, 5),
        ("b", 1, "é"): Mark(4, 8),
        ("d",): Mark(6, 4),
        ("d", "q"): Mark(5, 11),
        ("no", 1): Mark(1, 1),
    }
    assert document.key_mark(("b", 1, "é")) == Mark(4, 5)
    assert document.key_mark(("d",)) == Mark(6, 1)


def test_documents_have_their_own_problems() -> None:
    """A mistake belongs to the document it stands in, and a text that cannot go on to the last one begun."""
    loaded = load("f.yaml", b"---\na: 1\n---\nb: 1\nb: 2\n---\nc: 1\n}\n")
    assert [document.plain() for document in loaded.documents] == [{"a": 1}, {"b": 1}, {"c": 1}]
    assert [len(document.problems) for document in loaded.documents] == [0, 1, 1]
    assert loaded.stray == ()
    assert [problem.line for problem in loaded.problems] == [5, 8]


def test_what_was_read_before_a_syntax_error_is_kept() -> None:
    """The name of a broken document can still be told."""
    loaded = load("f.yaml", b"metadata:\n  name: x\nspec:\n  - a\n b")
    assert loaded.documents[0].plain() == {"metadata": {"name": "x"}, "spec": ["a"]}
    assert not loaded.documents[0].complete


def test_depth_is_allowed_up_to_its_limit() -> None:
    """The limit itself is fine, one more level is not; an alias counts with what it stands for."""
    assert told("[" * DEPTH_MAX + "]" * DEPTH_MAX) == []
    assert told("[" * (DEPTH_MAX + 1) + "]" * (DEPTH_MAX + 1)) == [
        f"f.yaml:1:{DEPTH_MAX + 1}: nested more than {DEPTH_MAX} levels deep"
    ]
    deep = "a: &a " + "[" * 40 + "]" * 40 + "\nb: "
    inner = DEPTH_MAX - 1 - 40
    assert told(deep + "[" * inner + "*a" + "]" * inner) == []
    assert len(told(deep + "[" * (inner + 1) + "*a" + "]" * (inner + 1))) == 1


def bomb() -> str:
    lines = ["a: &a [" + ",".join("x" * 9) + "]"]
    for number in range(9):
        name, before = chr(98 + number), chr(97 + number)
        lines.append(f"{name}: &{name} [" + ",".join([f"*{before}"] * 9) + "]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        *(
            pytest.param(unit * (MEGABYTE // len(unit)), id=repr(unit))
            for unit in (
                "[",
                "{",
                "[\n",
                "{a: ",
                "- ",
                "? ",
                "&a [",
                "? [",
                "!a [",
                "- [",
                "*a ",
                "a,",
                '"',
                "---\n",
                ": ",
                "#\n",
            )
        ),
        pytest.param("[" * 100_000, id="100k nested"),
        pytest.param("[" + "a," * 500_000 + "]", id="many values"),
        pytest.param("".join(f"%TAG !a{n}! t\n" for n in range(50_000)) + "---\n1", id="tag directives"),
        pytest.param(
            "\r".join(f"%TAG !a{n}! t" for n in range(50_000)) + "\r---\r1", id="tag directives by CR"
        ),
        pytest.param("a: &a 1\nb: [" + "*a," * 200_000 + "]", id="aliases"),
        pytest.param("".join(" " * n + "a:\n" for n in range(1400)), id="indentation"),
        pytest.param("".join(f"a{n}: &a{n} 1\n" for n in range(60_000)), id="anchors"),
        pytest.param("".join("a: 1\n" for _ in range(100_000)), id="duplicates"),
        pytest.param(bomb(), id="billion laughs"),
    ],
)
def test_hostile_text_takes_little_time_and_memory(text: str) -> None:
    """Whatever a megabyte of text holds, reading it ends soon, says so, and builds little."""
    content = text.encode()[:FILE_BYTES_MAX]
    tracemalloc.start()
    began = time.process_time()
    loaded = load("f.yaml", content)
    spent = time.process_time() - began
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert spent < 20
    assert peak < 200 * MEGABYTE
    assert len(loaded.problems) <= PROBLEMS_MAX + 2


def test_counts_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files, documents, values and aliases each have a limit that is named."""
    assert told("a" * (FILE_BYTES_MAX + 1)) == [
        (
            f"f.yaml: the file has {FILE_BYTES_MAX + 1} bytes, more than the limit of {FILE_BYTES_MAX} "
            "(split it into several files)"
        )
    ]
    assert told("---\na: 1\n" * DOCUMENTS_MAX) == []
    assert "more than 100 documents" in told("---\na: 1\n" * (DOCUMENTS_MAX + 1))[0]
    assert f"more than {NODES_MAX} values" in told(bomb())[0]
    assert told("a: &a 1\nb: [" + "*a," * ALIASES_MAX + "]") == []
    assert f"more than {ALIASES_MAX} aliases" in told("a: &a 1\nb: [" + "*a," * (ALIASES_MAX + 1) + "]")[0]
    monkeypatch.setattr(yaml_text, "NODES_MAX", 5000)
    assert told("[" + "a," * 4999 + "]") == []
    assert "more than 5000 values" in told("[" + "a," * 5000 + "]")[0]


def test_empty_files_hold_no_documents() -> None:
    """Nothing, white space and comments are no documents."""
    assert [load("f.yaml", text).documents for text in (b"", b"\n \n", b"# x\n")] == [(), (), ()]
