"""Whatever stands in a file, parsing a spec is safe, bounded and the same each time."""

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.spec.parse import parse_file, parse_tree

GOOD = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {name: production}
spec:
  variables: {tier: gold}
  deployments:
    - name: eu
      postgres: {dsn: {env: SHOP_DSN}}
  components:
    - {name: db, kind: Database, database: "shop_${deployment}"}
    - {name: m, kind: Module, database: {from: db}, path: modules/shop}
"""
PIECES = st.sampled_from(
    [
        "{",
        "}",
        "[",
        "]",
        ": ",
        "- ",
        "\n",
        "  ",
        "&a ",
        "*a",
        "!!x ",
        "<<: ",
        "|\n",
        ">",
        "'",
        '"',
        "${",
        "#",
        "\t",
        "\0",
        "é",
    ]
)


@given(st.binary(max_size=400))
def test_any_bytes(content: bytes) -> None:
    """Bytes of any kind give environments or problems, never an exception."""
    for item in parse_file("f.yaml", content):
        assert item.spec is not None or item.problems


@given(st.lists(st.tuples(st.integers(0, len(GOOD)), PIECES), max_size=6), st.integers(0, 60))
@settings(max_examples=300)
def test_damaged_specs(edits: list[tuple[int, str]], cut: int) -> None:
    """A good spec with pieces put in or cut out is parsed or told, the same each time."""
    text = GOOD
    for place, piece in edits:
        text = text[:place] + piece + text[place + (cut if piece == "\n" else 0) :]
    first, second = (parse_tree({"environments/a.yaml": text.encode()}) for _ in range(2))
    assert [str(problem) for item in first for problem in item.problems] == [
        str(problem) for item in second for problem in item.problems
    ]
    assert all(item.spec is None or not item.problems for item in first)


@given(st.text(alphabet="abc{}$ \n'\"", max_size=30))
def test_secrets_in_the_wrong_place_are_not_told(around: str) -> None:
    """Where a connection string stands instead of a reference, no problem quotes it."""
    secret = "sw0rdfish-XyZ"
    text = GOOD.replace("{env: SHOP_DSN}", f'"{secret}"') + f"# {around!r}\n"
    assert secret not in "".join(
        str(problem) for item in parse_file("f.yaml", text.encode()) for problem in item.problems
    )
