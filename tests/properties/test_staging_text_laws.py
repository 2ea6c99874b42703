"""Laws of putting texts elsewhere: mentions move, and nothing else of a text does."""

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.catalog.identifier import quote_qualified
from reconciler.catalog.sql_text import parse_hash, split
from reconciler.objects.model import Mention, ObjectName, SqlStatement
from reconciler.objects.staging_text import live_text, rewritten

names = st.sampled_from(["open", "Daily Sales", "select", "a.b", 'a"b', "é表", "x" * 60])
targets = st.builds(ObjectName, names, names)
noise = st.sampled_from(
    [
        " ",
        "\n",
        " -- core.open\n",
        " /* core.open /* open */ */ ",
        " 'core.open' || ",
        " $$core.open$$ || ",
        ' 1 AS "open", ',
    ]
)


@st.composite
def statements(draw: st.DrawFn) -> tuple[SqlStatement, str]:
    """A view with comments and strings that look like names; with it, the text with all names written out."""
    own = draw(targets)
    text, full, mentions = "CREATE VIEW ", "CREATE VIEW ", []

    def mention(target: ObjectName) -> None:
        nonlocal text, full
        whole = quote_qualified(target.schema, target.name)
        written = draw(st.sampled_from([whole, quote_qualified(target.name)]))
        mentions.append(Mention(start=len(text), end=len(text) + len(written), target=target))
        text, full = text + written, full + whole

    def plain(more: str) -> None:
        nonlocal text, full
        text, full = text + more, full + more

    mention(own)
    plain(" AS SELECT")
    for each in draw(st.lists(noise, max_size=4)):
        plain(each)
    plain(" 'open'")
    for number, target in enumerate(draw(st.lists(targets, max_size=4))):
        plain(" FROM " if number == 0 else " CROSS JOIN ")
        mention(target)
        plain(f" AS t{number}{draw(st.sampled_from(['', ' -- open', ' /* open */']))}\n")
    return SqlStatement(text=text, line=1, mentions=tuple(mentions)), full


@settings(max_examples=60)
@given(statements())
def test_live_text_is_the_text_with_qualified_names(made: tuple[SqlStatement, str]) -> None:
    """To the parser and to the eye, a text under live names is the text with every name written out."""
    written, full = made
    assert live_text(written) == full
    assert parse_hash(live_text(written)) == parse_hash(full)
    assert parse_hash(full).startswith("pg"), full


@settings(max_examples=60)
@given(statements(), st.sampled_from(["stage", "Stage Two", "é"]))
def test_only_mentions_are_moved(made: tuple[SqlStatement, str], schema: str) -> None:
    """Strings and comments stay, byte for byte, and the text remains one statement."""
    written, _ = made
    moved = rewritten(written, lambda _: schema)
    at, shift = 0, 0
    for mention in written.mentions:
        assert moved[at + shift : mention.start + shift] == written.text[at : mention.start]
        name = quote_qualified(schema, mention.target.name)
        assert moved.startswith(name, mention.start + shift)
        shift += len(name) - (mention.end - mention.start)
        at = mention.end
    assert moved[at + shift :] == written.text[at:]
    assert len(split(moved)) == 1


@settings(max_examples=30)
@given(statements())
def test_there_and_back(made: tuple[SqlStatement, str]) -> None:
    """A text that was put under staging names and back is the live text."""
    written, full = made
    there, shift, mentions = rewritten(written, lambda _: "s"), 0, []
    for mention in written.mentions:
        name = quote_qualified("s", mention.target.name)
        start = mention.start + shift
        mentions.append(Mention(start=start, end=start + len(name), target=mention.target))
        shift += len(name) - (mention.end - mention.start)
    assert live_text(SqlStatement(text=there, line=1, mentions=tuple(mentions))) == full
