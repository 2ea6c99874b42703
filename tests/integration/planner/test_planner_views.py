"""Commits as the planner has them: read once, fetched on demand, and beside texts that stand in none."""

import asyncio
import re

import pytest

from reconciler.errors import NotFound, SourceUnavailable, SpecError
from tests.plugins.git import GitRepository
from tests.plugins.planning import MakeSetting, Setting, environment, module

SHOP = "environments/shop.yaml"


async def test_commit_that_another_daemon_recorded_is_fetched(
    make_setting: MakeSetting, git_repository: GitRepository
) -> None:
    """A mirror that lags behind gets the commit when it is asked for it, once for all who ask."""
    git_repository.commit({SHOP: environment("shop", "shop"), **module("shop", one="CREATE TABLE a ();")})
    ours, theirs = make_setting("ours"), make_setting("theirs")
    first = (await ours.source.fetch()).commit
    newer = git_repository.commit(module("shop", one="CREATE TABLE a ();", two="CREATE TABLE b ();"))
    assert (await theirs.source.fetch()).commit == newer
    views = await asyncio.gather(*(ours.planner.view("site", newer) for _ in range(5)))
    assert len(set(map(id, views))) == 1
    _spec, (state,) = await ours.planner.desired(views[0], "shop")
    assert [change.name for change in state.modules[0].changes] == ["one", "two"]
    good = ours.source.last_good()
    assert good is not None
    assert good.id == first, "what is followed does not move by it"


async def test_commit_that_nobody_has_is_an_error_at_once(
    setting: Setting, git_repository: GitRepository
) -> None:
    """It is looked for once, and not taken for something else."""
    git_repository.commit({SHOP: environment("shop", "shop")})
    await setting.source.fetch()
    with pytest.raises((NotFound, SourceUnavailable)):
        await setting.planner.view("site", "1" * 40)


async def test_many_commits_leave_few_views(setting: Setting, git_repository: GitRepository) -> None:
    """A commit a second for days costs no more memory than the last few."""
    for number in range(12):
        git_repository.commit(
            {SHOP: environment("shop", f"shop{number}"), **module("shop", one=f"SELECT {number};")}
        )
        commit = (await setting.source.fetch()).commit
        view = await setting.planner.view("site", commit)
        await setting.planner.desired(view, "shop")
    assert len(setting.planner._commits._views) <= 6
    assert len(setting.planner._resolving._states) == 1


async def test_posted_text_is_planned_beside_the_files_of_a_commit(
    setting: Setting, git_repository: GitRepository
) -> None:
    """What the text says counts, with the modules as the commit has them; nothing of it stays."""
    git_repository.commit({SHOP: environment("shop", "shop"), **module("shop", one="CREATE TABLE a ();")})
    view = await setting.planner.view("site", (await setting.source.fetch()).commit)
    text = environment("shop", "other").encode()
    spec, (state,) = await setting.planner.posted(view, "shop", text)
    assert (spec.name, state.databases[0].database, state.commit) == ("shop", "other", view.commit)
    assert [change.name for change in state.modules[0].changes] == ["one"]
    _spec, (after,) = await setting.planner.desired(view, "shop")
    assert after.databases[0].database == "shop"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (environment("blog", "x"), "<posted>: metadata.name: must be 'shop'"),
        ("", "exactly one document, and this has 0"),
        (f"{environment('shop', 'x')}---\n{environment('blog', 'x')}", "this has 2"),
        (environment("shop", "x") + "  bad: 1\n", "<posted>:10:3: spec: unknown key 'bad'"),
        (environment("shop", "x", path="modules/none"), "no plan file: neither 'modules/none/sqitch.plan'"),
        ("{", "<posted>:"),
        ("\0", "<posted>"),
    ],
)
async def test_posted_text_that_is_wrong_is_told_with_its_place(
    setting: Setting, git_repository: GitRepository, text: str, told: str
) -> None:
    """Whatever is posted, it is a spec of that environment or an error about the input."""
    git_repository.commit({SHOP: environment("shop", "shop"), **module("shop", one="CREATE TABLE a ();")})
    view = await setting.planner.view("site", (await setting.source.fetch()).commit)
    with pytest.raises(SpecError, match=re.escape(told)):
        await setting.planner.posted(view, "shop", text.encode())
