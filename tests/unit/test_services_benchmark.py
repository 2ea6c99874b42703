"""What the benchmark of services does without a server: what is started, the spec, times of stages."""

import json

from benchmarks import containers, services
from tests.system.container_bench import IMAGE


def test_stages_have_as_many_services_each_time() -> None:
    """The same are drawn at each call, in stages of one size; the slowest of each counts."""
    of = services.members(40)
    assert of == services.members(40)
    sizes = {stage: [each.stage for each in of].count(stage) for stage in {each.stage for each in of}}
    assert sizes == {f"stage{number}": 10 for number in range(4)}
    first = max(each.ready_s for each in of[:10])
    assert services.slowest(of)["stage0"] == first + services.STEADY_S


def test_of_another_version_only_some_change() -> None:
    """The others are written as before, so that nothing is to be done for them."""
    of = services.members(8)
    before, after = (
        json.loads(services.spec(of, version=1, changed=count)["environments/shop.yaml"]) for count in (0, 2)
    )
    parts = zip(before["spec"]["components"], after["spec"]["components"], strict=True)
    assert [one != other for one, other in parts] == [True] * 2 + [False] * 6


def test_stage_lasts_from_its_first_beginning_to_its_last_end() -> None:
    """Steps of other stages count for theirs."""
    rows = [("x", 5.0, 7.0), ("y", 1.0, 4.0), ("z", 2.0, 4.5)]
    assert services.stage_times(rows, {"x": "b", "y": "a", "z": "a"}) == {"a": 3.5, "b": 2.0}


def test_containers_of_another_version_are_others() -> None:
    """Each is of the same image and starts anew in each round."""
    before, after = (
        json.loads(containers.spec(3, version)["environments/shop.yaml"])["spec"]["components"]
        for version in (0, 1)
    )
    assert {each["runtime"]["container"]["image"] for each in (*before, *after)} == {IMAGE}
    assert all(one != other for one, other in zip(before, after, strict=True))
