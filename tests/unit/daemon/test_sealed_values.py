"""Sealed values: only the key they were sealed with opens them, and the error says of what and what to do."""

from collections.abc import Sequence

import pytest

from reconciler.daemon import age
from reconciler.daemon.secrets import Secrets
from reconciler.errors import Refused
from reconciler.secret_settings import SecretValue
from reconciler.worker.register import opened


def _of(keys: Sequence[str]) -> Secrets:
    names = {f"KEY_{number}": key for number, key in enumerate(keys)}
    return Secrets(names, lambda _: None, [SecretValue(env=name) for name in names])


def test_sealed_value_outlives_another_key_in_front() -> None:
    """The first key seals; one that came before it, and stands behind it now, opens what it sealed."""
    before, now = age.new_key().secret, age.new_key().secret
    sealed = _of([before]).seal("sesame")
    assert _of([now, before]).unseal(sealed) == "sesame"


@pytest.mark.parametrize("others", [0, 1])
def test_sealed_value_without_its_key_says_which_and_what_to_do(others: int) -> None:
    """Nobody can encrypt anew what was generated: the error does not ask for that."""
    sealed = _of([age.new_key().secret]).seal("sesame")
    left = _of([age.new_key().secret for _ in range(others)])
    with pytest.raises(Refused, match=r"^opening output 'keys.session': .*sealed with a key that") as found:
        opened(left, sealed, "output 'keys.session'")
    assert "name that key under secrets.age_keys" in str(found.value)
    assert "made anew" in str(found.value)
    assert "sesame" not in str(found.value)
