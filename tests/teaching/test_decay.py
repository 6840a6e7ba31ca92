"""Decays of an EMA teacher."""

from __future__ import annotations

import pytest

from mixdet.teaching import Decay


def test_constant_after_a_burn_in_in_which_the_student_is_copied() -> None:
    decay = Decay(0.99, burn_in_steps=3)
    assert [decay.at(step) for step in range(5)] == [0, 0, 0, 0.99, 0.99]


def test_mums_ramp() -> None:
    """From 0.5 to the value over 4 updates, and no further."""
    decay = Decay(0.9, ramp="linear", ramp_steps=4)
    assert [decay.at(step) for step in range(6)] == pytest.approx([0.6, 0.7, 0.8, 0.9, 0.9, 0.9])
    later = Decay(0.9, burn_in_steps=2, ramp="linear", ramp_steps=4)
    assert [later.at(step) for step in range(7)] == pytest.approx([0, 0, 0.6, 0.7, 0.8, 0.9, 0.9])
    assert Decay(0.3, ramp="linear", ramp_steps=4).at(2) == pytest.approx(0.3)


def test_harmonic_is_the_mean_of_all_students_so_far() -> None:
    decay, teacher = Decay(0.9, ramp="harmonic"), -1.0
    students = [3.0, 5.0, 1.0, 7.0, 4.0]
    for step, student in enumerate(students):
        teacher = decay.at(step) * teacher + (1 - decay.at(step)) * student
        assert teacher == pytest.approx(sum(students[: step + 1]) / (step + 1))
    assert decay.at(100) == 0.9


@pytest.mark.parametrize("settings", [{"value": 1.0}, {"value": -0.1}, {"value": 0.9, "ramp": "cosine"}])
def test_wrong_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="Decay: "):
        Decay(**settings)  # type: ignore[arg-type]
