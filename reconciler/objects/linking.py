"""From drafts to objects: every name gets its meaning, with the hashes that follow; it reads no text."""

from collections.abc import Collection, Iterable, Mapping

from reconciler.errors import Problem
from reconciler.frozen import frozen
from reconciler.objects import hashing
from reconciler.objects.drafts import Draft, ObjectDraft
from reconciler.objects.meanings import Meaning, Whose
from reconciler.objects.mentions import Question, Reference, Use
from reconciler.objects.model import (
    Mention,
    ObjectName,
    Rows,
    SqlIndex,
    SqlObject,
    SqlStatement,
    UnitTest,
)
from reconciler.objects.source_file import SourceFile
from reconciler.objects.unit_test_text import WrittenRows, WrittenTest
from reconciler.objects.words import Finding, meant, shown

Meanings = Mapping[Question, Meaning]


@frozen
class Linked:
    """An object whose names are known, what is wrong with them, and which externals its file uses."""

    made: SqlObject
    problems: tuple[Problem, ...]


def link(file: SourceFile, draft: ObjectDraft, meanings: Meanings) -> Linked:
    """Make the object of a file; it is whole, also where some of its names are mistakes."""
    linker = _Linker(draft, meanings)
    statements = {id(each): linker.statement(each) for each in draft.drafts}
    targets = linker.targets
    creates = tuple(statements[id(each)] for each in draft.creates)
    indexes = tuple(
        SqlIndex(name=each.name, unique=each.unique, statement=statements[id(each.draft)])
        for each in draft.indexes
    )
    tests = tuple(linker.test(file, each) for each in draft.tests)
    made = SqlObject(
        name=draft.name,
        sort=draft.sort,
        path=file.path,
        creates=creates,
        indexes=indexes,
        grants=tuple(statements[id(each)] for each in draft.grants),
        comments=tuple(statements[id(each)] for each in draft.comments),
        options=draft.options,
        tests=tests,
        depends_on=frozenset(targets[Whose.PROJECT]),
        externals=frozenset(targets[Whose.OUTSIDE]),
        hash=_definition_hash(draft, statements),
        metadata_hash=_metadata_hash(draft, statements),
    )
    return Linked(made=made, problems=file.problems(linker.findings))


def _definition_hash(draft: ObjectDraft, statements: Mapping[int, SqlStatement]) -> str:
    def hashes(drafts: Iterable[Draft]) -> list[str]:
        return [hashing.statement_hash(each, statements[id(each)]) for each in drafts]

    return hashing.definition_hash(hashes(draft.creates), hashes(each.draft for each in draft.indexes))


def _metadata_hash(draft: ObjectDraft, statements: Mapping[int, SqlStatement]) -> str:
    grants = [
        (hashing.metadata_statement_hash(each, statements[id(each)]), each.text[:6].lower() == "revoke")
        for each in draft.grants
    ]
    comments = [hashing.metadata_statement_hash(each, statements[id(each)]) for each in draft.comments]
    return hashing.metadata_hash(grants, comments, draft.options)


class _Linker:
    """Gives names of one file their meanings, and notes what they lead to."""

    def __init__(self, draft: ObjectDraft, meanings: Meanings) -> None:
        self._draft = draft
        self._meanings = meanings
        self.findings: list[Finding] = []
        self.targets: dict[Whose, set[ObjectName]] = {Whose.PROJECT: set(), Whose.OUTSIDE: set()}
        self._calls = False

    def statement(self, draft: Draft) -> SqlStatement:
        """Make a statement of a draft, its names in the order of the text."""
        mentions: list[Mention] = list(draft.own)
        outside: list[Mention] = []
        for reference in draft.references:
            meaning = self._meanings[reference.question]
            if meaning.whose is Whose.MISTAKE:
                self._wrong(draft, reference, meaning.message, meaning.hint)
            elif meaning.target is not None:
                self._note(draft, reference, meaning, mentions if meaning.whose is Whose.PROJECT else outside)
        mentions.sort(key=lambda each: each.start)
        return SqlStatement(
            text=draft.text, line=draft.line, mentions=tuple(mentions), outside=tuple(outside)
        )

    def _note(self, draft: Draft, reference: Reference, meaning: Meaning, found: list[Mention]) -> None:
        target = meaning.target
        assert target is not None
        if reference.end is None:
            message = f"the name of {shown(target)} is written with escapes"
            self._wrong(draft, reference, message, "write it plainly, in double quotes if need be")
            return
        if target != self._draft.name:
            self.targets[meaning.whose].add(target)
            self._calls = self._calls or meaning.routine
        elif not self._may_name_itself(reference):
            message = f"{self._draft.sort.value} {shown(target)} reads itself"
            self._wrong(draft, reference, message, "to read rows of before, keep them in a table of a Module")
        found.append(
            Mention(
                start=reference.start,
                end=reference.end,
                target=target,
                routine=meaning.routine,
                in_body=reference.in_body,
            )
        )

    def _may_name_itself(self, reference: Reference) -> bool:
        """A routine may call itself, and a column of the object may be named in full."""
        return self._draft.sort.is_routine or reference.question.use is Use.COLUMN

    def _wrong(self, draft: Draft, reference: Reference, message: str, hint: str | None) -> None:
        start = draft.offset + reference.start
        end = None if reference.end is None else draft.offset + reference.end
        self.findings.append(Finding(offset=start, end=end, message=message, hint=hint))

    def test(self, file: SourceFile, test: WrittenTest) -> UnitTest:
        """Make a unit test; what it mocks must be what the object reads."""
        mocks = [
            Rows(relation=self._mocked(test, each), columns=each.columns, query=each.query)
            for each in test.mocks
        ]
        names = [each.relation for each in mocks]
        if len(set(names)) < len(names):
            message = f"unit test '{test.name}' mocks one relation twice"
            self.findings.append(Finding(offset=test.start, message=message))
        return UnitTest(
            name=test.name,
            line=file.line(test.start),
            mocks=tuple(mocks),
            expected=Rows(relation=None, columns=test.expected.columns, query=test.expected.query),
            arguments=test.arguments or "",
        )

    def _mocked(self, test: WrittenTest, rows: WrittenRows) -> ObjectName:
        read = self.targets[Whose.PROJECT] | self.targets[Whose.OUTSIDE]
        if len(rows.parts) == 2:
            named: Collection[ObjectName] = (ObjectName(*rows.parts),)
        else:
            named = (
                ObjectName(self._draft.name.schema, rows.parts[-1]),
                ObjectName("public", rows.parts[-1]),
            )
        for name in named:
            if name in read:
                return name
        if self._calls and len(rows.parts) == 2:
            return next(iter(named))  # what is called may read it, which is seen when all is compiled
        written = ".".join(rows.parts)
        known = sorted(f"{each.schema}.{each.name}" for each in read)
        hint = meant(written, known) or f"it reads {', '.join(known[:12]) or 'nothing'}"
        message = (
            f"unit test '{test.name}' mocks '{written}', which the {self._draft.sort.value} does not read"
        )
        self.findings.append(Finding(offset=rows.start, message=message, hint=hint))
        return next(iter(named))
