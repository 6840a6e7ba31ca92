"""The flat, lazy public names."""

from __future__ import annotations

import mixdet


def test_every_public_name_is_there_and_listed() -> None:
    assert list(mixdet.__all__) == sorted(mixdet._HOMES)
    assert set(mixdet.__all__) < set(dir(mixdet))
    for name in mixdet.__all__:
        value = getattr(mixdet, name)
        assert value.__module__.startswith(mixdet._HOMES[name]), name
        assert value.__doc__, name
    assert mixdet.__version__


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(mixdet, "trian")
