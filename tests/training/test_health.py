"""Alarms: when they are raised, what they say, and when not."""

from __future__ import annotations

import pytest

from mixdet.training.health import Health

Values = dict[str, float | list[float]]


def values(*of_class: float, kept: float = 0.2) -> Values:
    return {"pseudo_boxes": sum(of_class), "pseudo_kept": kept, "pseudo_boxes_of_class": list(of_class)}


def health(**settings: object) -> Health:
    return Health(("cat", "dog"), (2.0, 0.5), **({"begins": 10, "patience": 20, "decay": 0.99} | settings))  # type: ignore[arg-type]


def test_the_line_compares_pseudo_boxes_with_labelled_ones() -> None:
    watch = health()
    assert watch.line(5, {"loss": 1.0}) == "burn-in: the teacher begins at step 10"
    said = "pseudo boxes 1.6 an image (labelled 2.5; least cat, 1.20 of 2.00), 20% of detections kept"
    assert watch.line(30, values(1.2, 0.4)) == said
    watch.evaluated(40, {"teacher": 0.5, "student": 0.25})
    assert watch.line(50, values(1.2, 0.4)) == f"{said}, AP teacher 50.0 student 25.0"
    assert Health(("cat", "dog"), (2.0, 0.0), 0, 5).line(30, values(1.2, 0.4)).count("least cat, 1.20 of 2.00") == 1
    assert health(begins=0).line(5, {"loss": 1.0}) == ""


def test_a_run_that_goes_on_knows_what_was_measured() -> None:
    before, after = health(), health()
    before.evaluated(40, {"teacher": 0.5, "student": 0.25})
    after.load_state_dict(before.state_dict())
    assert after.line(50, values(1.2, 0.4)).endswith("AP teacher 50.0 student 25.0")


def test_the_line_shows_the_histogram_of_scores() -> None:
    line = health().line(30, {**values(1.2, 0.4), "pseudo_scores": [8.0, 4.0, 0.5, 0.0]})
    assert ", scores 0 █▄▁  1, 20% of detections kept" in line
    assert ", scores 0    1, " in health().line(30, {**values(1.2, 0.4), "pseudo_scores": [0.0, 0.0]})


def test_a_class_may_have_braces_in_its_name() -> None:
    watch = Health(("{x}", "{}"), (2.0, 0.5), 0, 5)
    said = [alarm for step in (0, 10) for alarm in watch.alarms(step, values(0.0, 1.0))]
    assert len(said) == 1
    assert said[0].startswith("class {x} got no pseudo box for 10 steps")


def test_labelled_images_without_a_box_compare_with_nothing() -> None:
    line = Health(("cat", "dog"), (0.0, 0.0), 0, 5).line(30, values(1.2, 0.4))
    assert line == "pseudo boxes 1.6 an image (labelled 0.0), 20% of detections kept"


def test_the_record_has_the_labelled_boxes_beside_the_pseudo_boxes() -> None:
    assert health().record(values(1.0, 0.0)) == {"labeled_boxes": 2.5, "labeled_boxes_of_class": [2.0, 0.5]}
    assert health().record({"loss": 1.0}) == {}


def test_a_healthy_run_raises_nothing() -> None:
    watch = health()
    assert all(watch.alarms(step, values(1.5, 0.5)) == [] for step in range(10, 200, 10))
    assert watch.alarms(200, {"loss": 1.0}) == []


def test_no_pseudo_boxes_is_said_once_and_again_after_it_was_over() -> None:
    watch = health()
    said = {step: watch.alarms(step, values(0.0, 0.0)) for step in range(10, 100, 10)}
    assert [step for step, alarms in said.items() if alarms] == [30]
    assert said[30] == [
        "no pseudo boxes for 20 steps: the teacher is sure of nothing; lower method.score_threshold, or raise "
        "method.decay.burn_in_steps so that it learns from labels first"
    ]
    assert watch.alarms(100, values(2.0, 0.5)) == []
    assert [bool(watch.alarms(step, values(0.0, 0.0))) for step in (110, 120, 130)] == [False, False, True]


def test_far_fewer_boxes_than_labelled_ones() -> None:
    watch = health()
    said = {step: watch.alarms(step, values(0.3, 0.2)) for step in range(10, 200, 10)}
    assert [step for step, alarms in said.items() if alarms] == [90]
    assert said[90] == [
        "0.50 pseudo boxes an image against 2.50 labelled ones, for 80 steps: what is not found is taught as "
        "background; lower method.score_threshold"
    ]
    assert watch.alarms(200, values(0.6, 0.2)) == []


@pytest.mark.parametrize(
    ("matched", "none", "few"),
    [
        (None, "lower method.score_threshold, or raise method.decay.", "lower method.score_threshold"),
        (False, "lower method.score_threshold or set method.matched_thresholds=true, or raise method.decay.", "=true"),
        (True, "raise method.decay.burn_in_steps so that it learns from labels first", "learns from labels first"),
    ],
)
def test_the_remedy_is_one_that_the_method_has(matched: bool | None, none: str, few: str) -> None:
    watch = health(matched=matched)
    (alarm,) = [a for step in (10, 30) for a in watch.alarms(step, values(0.0, 0.0))]
    assert alarm.partition("; ")[2].startswith(none)
    assert alarm.count("burn_in_steps") == 1
    watch = health(matched=matched)
    (alarm,) = [a for step in (10, 90) for a in watch.alarms(step, values(0.3, 0.2))]
    assert alarm.endswith(few)


def test_an_explosion() -> None:
    watch = health()
    alarms = [alarm for step in (10, 20, 30) for alarm in watch.alarms(step, values(9.0, 1.0))]
    assert alarms == [
        "10.0 pseudo boxes an image against 2.5 labelled ones: the teacher finds too much; raise "
        "method.score_threshold, or lower method.unsup_weight"
    ]
    assert health().alarms(10, values(6.0, 1.0)) == []


def test_a_class_that_is_never_labelled() -> None:
    watch = health()
    alarms = [alarm for step in (10, 20, 30, 40) for alarm in watch.alarms(step, values(2.0, 0.0))]
    assert len(alarms) == 1
    assert alarms[0].startswith("class dog got no pseudo box for 20 steps (0.50 labelled ones an image): ")
    unknown = Health(("cat", "dog"), (2.0, 0.0), 0, 5)
    assert all(unknown.alarms(step, values(2.0, 0.0)) == [] for step in (10, 20, 30))


def test_a_teacher_worse_than_its_student() -> None:
    watch = health()
    assert watch.evaluated(5, {"teacher": 0.0, "student": 0.5}) == []  # burn-in
    assert watch.evaluated(50, {"teacher": 0.495, "student": 0.5}) == []
    (alarm,) = watch.evaluated(100, {"teacher": 0.3, "student": 0.5})
    assert alarm == (
        "the teacher (AP 30.0) is worse than its student (50.0): lower method.decay.value (at 0.99 the teacher lags by "
        "some 100 steps)"
    )
    assert watch.evaluated(150, {"teacher": 0.3, "student": 0.5}) == []
    assert watch.evaluated(200, {"teacher": 0.6, "student": 0.5}) == []
    assert len(watch.evaluated(250, {"teacher": 0.3, "student": 0.5})) == 1


@pytest.mark.parametrize("ap", [{"student": 0.5}, {"teacher": None, "student": 0.5}])
def test_without_a_number_nothing_is_said(ap: dict[str, float | None]) -> None:
    assert health().evaluated(100, ap) == []
