"""What `status` and `apply` say of an environment of which a part waits for somebody."""

import io
from typing import Any

from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.output import Screen, scope_mark
from reconciler.cli.status import NAMED_MAX, advice, causes, code_of, word_of

REST = "resources are provisioned; roll out the rest with: reconciler apply production --full"


def deployment(name: str, *left_out: str) -> dict[str, Any]:
    return {
        "name": name,
        "pending": 0,
        "drift": 0,
        "diverged": 0,
        "held": None,
        "unavailable": None,
        "state": "completed",
        "provisioned_commit": "c" * 40 if left_out else None,
        "left_out": list(left_out),
    }


def environment(*deployments: dict[str, Any]) -> dict[str, Any]:
    only = any(each["left_out"] for each in deployments)
    return {
        "name": "production",
        "source": "shop",
        "head_commit": "c" * 40,
        "observed_commit": "c" * 40,
        "suspended": False,
        "error": None,
        "deployments": list(deployments),
        "conditions": [
            {"type": "Ready", "status": not only, "reason": "Provisioned" if only else "InSync"},
            {"type": "Stalled", "status": False, "reason": "Moving"},
        ],
    }


def test_what_is_left_to_roll_out_is_said_with_its_command() -> None:
    """It is not in sync before all is rolled out; what is left is told once for all that leave the same."""
    found = environment(deployment("eu", "api", "edge"), deployment("us", "api", "edge"), deployment("asia"))
    assert (word_of(found), code_of(found)) == ("provisioned", ExitCode.PENDING)
    assert list(causes(found)) == [
        "eu, us: of cccccccccccc only the resources are there; left out: api, edge"
    ]
    assert list(advice(found, [])) == [REST]


def test_what_is_all_rolled_out_says_nothing_of_it() -> None:
    """Also in the answer of an older daemon."""
    whole = environment(deployment("eu"))
    for each in (whole, {**whole, "deployments": [{**whole["deployments"][0], "left_out": None}]}):
        assert (word_of(each), code_of(each)) == ("in sync", ExitCode.OK)
        assert [*causes(each), *advice(each, [])] == []


def test_of_much_that_is_left_out_some_is_named() -> None:
    """The others are counted."""
    names = [f"s{number:02}" for number in range(NAMED_MAX + 3)]
    (line,) = causes(environment(deployment("eu", *names)))
    assert line.endswith("s09 and 3 more")


def test_rollouts_of_resources_are_marked() -> None:
    """Wherever a rollout is named, its scope is told where it is not the whole."""
    assert scope_mark({"scope": "provision-only"}) == " (provision-only)"
    assert scope_mark({"scope": "full"}) == ""


def test_nothing_to_provision_names_what_is_next() -> None:
    """A second provision-only rollout has nothing to do, and says how the rest is rolled out."""
    from reconciler.cli.apply import say_nothing

    out, err = io.StringIO(), io.StringIO()
    say_nothing(Screen(out=out, err=err), "production", provision_only=True)
    assert out.getvalue() == "production (provision-only): nothing to do\n"
    assert REST in err.getvalue()
    out = io.StringIO()
    say_nothing(Screen(out=out, err=io.StringIO()), "production", provision_only=False)
    assert out.getvalue() == "production: nothing to do\n"


def test_consent_that_is_missing_is_said_with_its_command() -> None:
    """Whoever reads why nothing goes on reads what to type, each hazard once."""
    waits = deployment("eu") | {
        "blocked": "pg: service pg: hazard REMOVES_SERVICE: it holds data; old: service old: "
        "hazard REMOVES_SERVICE: it holds data; box: nothing is known of it"
    }
    told = list(advice(environment(waits, deployment("us") | {"blocked": None}), []))
    assert told == ["where that is meant: reconciler apply production --allow-hazard REMOVES_SERVICE"]
