"""The pipelines of the examples call the script as it wants to be called, one step behind the other."""

import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.plugins.package import ROOT

CI = ROOT / "examples" / "ci"


def pipeline(name: str) -> dict[str, Any]:
    """The two jobs of a pipeline, by name."""
    found: dict[str, Any] = yaml.safe_load((CI / name).read_text())
    return {step: found.get("jobs", found)[step] for step in ("provision", "full")}


@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml"])
def test_full_waits_for_provision_and_each_has_a_token_of_its_own(name: str) -> None:
    """No job holds both tokens, so that what provisions cannot roll out."""
    jobs = pipeline(name)
    assert [jobs["full"]["needs"]] in ([["provision"]], ["provision"])
    for step, job in jobs.items():
        text = str(job)
        assert f"ci/rollout.sh {step} production" in text
        assert ("PROVISION_TOKEN" in text) == (step == "provision")
        assert ("OPERATE_TOKEN" in text) == (step == "full")


def call(folder: Path, line: str, *, code: int) -> tuple[int, list[list[str]]]:
    """Run the script with a program in place of `reconciler` whose dry run ends with a code."""
    log = folder / "calls"
    log.write_text("")
    program = folder / "reconciler"
    program.write_text(f'#!/bin/sh\necho "$*" >> {log}\ntest "$1" = diff && exit {code}\nexit 0\n')
    program.chmod(0o755)
    ended = subprocess.run(
        [str(CI / "rollout.sh"), *shlex.split(line)],
        env={"PATH": f"{folder}:/usr/bin:/bin", "RECONCILER_SERVER": "here"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    return ended.returncode, [line.split() for line in log.read_text().splitlines()]


@pytest.mark.parametrize(
    ("line", "code", "ends", "applied"),
    [
        ("provision shop abc", 3, 0, "--provision-only"),
        ("provision shop abc", 0, 0, "--provision-only"),
        ("provision shop abc", 1, 1, None),
        ("full shop abc --allow-hazard DELETES_DATA", 0, 0, "--full --allow-hazard DELETES_DATA"),
        ("full shop abc", 4, 0, "--full"),
        ("full shop abc", 3, 3, None),
        ("full shop abc", 5, 5, None),
    ],
)
def test_nothing_is_rolled_out_before_resources_are_there(
    tmp_path: Path, line: str, code: int, ends: int, applied: str | None
) -> None:
    """What the dry run of resources says decides; both steps are held to the commit of the pipeline."""
    ended, calls = call(tmp_path, line, code=code)
    assert ended == ends
    assert calls[0][:6] == ["diff", "shop", "--ref", "abc", "--provision-only", "--exit-code"]
    assert len(calls) == (2 if applied is not None else 1)
    if applied is not None:
        assert calls[1][:5] == ["apply", "shop", "--ref", "abc", "--wait"]
        assert " ".join(calls[1]).endswith(applied)


def test_there_are_two_steps(tmp_path: Path) -> None:
    """Any other asks the daemon nothing."""
    assert call(tmp_path, "all shop abc", code=0) == (2, [])
