"""Statements of object files with the names they use, before it is known what those mean; pure values."""

from collections.abc import Mapping

from reconciler.frozen import frozen
from reconciler.objects.mentions import Question, Reference
from reconciler.objects.model import Mention, ObjectName, ObjectSort
from reconciler.objects.unit_test_text import WrittenTest


@frozen
class Body:
    """The text of a routine's body: where its contents stand in the statement, and how it is read.

    `start` and `end` are those of the contents; `literal` is the whole string with its quotes. `doubled`
    says that quotes within are doubled. `is_sql` is false where only words are known.
    """

    start: int
    end: int
    literal: tuple[int, int]
    doubled: bool
    is_sql: bool


@frozen
class Draft:
    """A statement: its text, where that begins in its file, and the names it uses.

    `own` names the object itself. `unhashed` is what the hash leaves out (`OR REPLACE`, options).
    """

    text: str
    offset: int
    line: int
    own: tuple[Mention, ...]
    references: tuple[Reference, ...] = ()
    unhashed: tuple[tuple[int, int], ...] = ()
    body: Body | None = None


@frozen
class IndexDraft:
    """An index; without a `name` the server chooses one."""

    name: str
    unique: bool
    draft: Draft


@frozen
class ObjectDraft:
    """What one file says: one object with its companions.

    `questions` are all that has to be known of names, each once. `words` are the words of bodies that no
    parser reads here.
    """

    name: ObjectName
    sort: ObjectSort
    creates: tuple[Draft, ...]
    indexes: tuple[IndexDraft, ...]
    grants: tuple[Draft, ...]
    comments: tuple[Draft, ...]
    options: Mapping[str, str]
    tests: tuple[WrittenTest, ...]
    questions: tuple[Question, ...]
    words: frozenset[str]

    @property
    def drafts(self) -> tuple[Draft, ...]:
        """All statements, in the order in which they are run."""
        return (*self.creates, *(each.draft for each in self.indexes), *self.grants, *self.comments)
