"""Alarms: when they are raised, what they say, and when not."""

from __future__ import annotations

import json

import pytest

from mixdet.training.health import Health

Values = dict[str, float | list[float]]


def values(*of_class: float, which: str = "") -> Values:
    """A fifth of the detections is kept; their scores are 0.2 to 0.3."""
    boxes = sum(of_class)
    numbers: Values = {"pseudo_boxes": boxes, "pseudo_boxes_of_class": list(of_class), "pseudo_passed": boxes}
    numbers["pseudo_scores"] = [0.0, 0.0, 5 * boxes, 0.0]
    return {name + which: value for name, value in numbers.items()}


def health(**settings: object) -> Health:
    return Health(("cat", "dog"), (2.0, 0.5), **({"begins": 10, "patience": 20, "images": 4, "decay": 0.99} | settings))  # type: ignore[arg-type]


def test_the_line_compares_pseudo_boxes_with_labelled_ones() -> None:
    watch = health()
    assert watch.line(5, {"loss": 1.0}) == "burn-in: the teacher begins at step 10"
    said = (
        "pseudo boxes 1.6 an image (labelled 2.5; least cat 1.20 of 2.00, dog 0.40 of 0.50), scores 0   █  1, "
        "20% of detections kept"
    )
    assert watch.line(30, values(1.2, 0.4)) == said
    watch.evaluated(40, {"teacher": 0.5, "student": 0.25})
    assert watch.line(50, values(1.2, 0.4)) == f"{said}, AP teacher 50.0 student 25.0"
    assert "; least cat 1.20 of 2.00), " in Health(("cat", "dog"), (2.0, 0.0), 0, 5, 4).line(30, values(1.2, 0.4))
    many = Health(tuple("abcde"), (1.0,) * 5, 0, 5, 4).line(30, values(0.5, 0.9, 0.1, 0.2, 0.4))
    assert "; least c 0.10 of 1.00, d 0.20 of 1.00, e 0.40 of 1.00), " in many
    assert health(begins=0).line(5, {"loss": 1.0}) == ""


def test_a_run_that_goes_on_knows_what_was_measured() -> None:
    before, after = health(), health()
    before.evaluated(40, {"teacher": 0.5, "student": 0.25})
    after.load_state_dict(before.state_dict())
    assert after.line(50, values(1.2, 0.4)).endswith("AP teacher 50.0 student 25.0")


def test_the_line_shows_the_histogram_of_scores() -> None:
    line = health().line(30, {**values(1.2, 0.4), "pseudo_scores": [8.0, 4.0, 0.5, 0.0]})
    assert ", scores 0 █▄▁  1, 13% of detections kept" in line
    assert ", scores 0    1, " in health().line(30, {**values(1.2, 0.4), "pseudo_scores": [0.0, 0.0]})


def test_a_class_may_have_braces_in_its_name() -> None:
    watch = Health(("{x}", "{}"), (2.0, 0.5), 0, 5, 4)
    said = [alarm for step in (0, 10) for alarm in watch.alarms(step, values(0.0, 1.0))]
    assert len(said) == 1
    assert said[0].startswith("class {x} got no pseudo box for 10 steps")


def test_labelled_images_without_a_box_compare_with_nothing() -> None:
    line = Health(("cat", "dog"), (0.0, 0.0), 0, 5, 4).line(30, values(1.2, 0.4))
    assert line == "pseudo boxes 1.6 an image (labelled 0.0), scores 0   █  1, 20% of detections kept"


def test_the_record_has_the_labelled_boxes_beside_the_pseudo_boxes() -> None:
    labelled = {"labeled_boxes": 2.5, "labeled_boxes_of_class": [2.0, 0.5]}
    assert health().record(values(1.0, 0.0)) == {**labelled, "pseudo_kept": 0.2}
    assert health().record(values(0.0, 0.0)) == {**labelled, "pseudo_kept": 0.0}
    assert health().record({**values(1.0, 0.0), **values(1.0, 0.0, which="2")})["pseudo_kept2"] == 0.2
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
        "no pseudo boxes for 20 steps: the teacher is sure of nothing, and finds nothing at all; lower "
        "method.score_threshold, or raise method.decay.burn_in_steps so that it learns from labels first"
    ]
    assert watch.alarms(100, values(2.0, 0.5)) == []
    assert [watch.alarms(step, values(0.0, 0.0)) for step in range(110, 200, 10)] == [[]] * 9  # once is not over
    assert [watch.alarms(step, values(2.0, 0.5)) for step in (200, 210, 220, 230)] == [[]] * 4
    assert [bool(watch.alarms(step, values(0.0, 0.0))) for step in (240, 250, 260)] == [False, False, True]


def test_far_fewer_boxes_than_labelled_ones() -> None:
    watch = health()
    said = {step: watch.alarms(step, values(0.3, 0.2)) for step in range(10, 200, 10)}
    assert [step for step, alarms in said.items() if alarms] == [90]
    assert said[90] == [
        "0.50 pseudo boxes an image against 2.50 labelled ones, for 80 steps: what is not found is taught as "
        "background; lower method.score_threshold"
    ]
    assert watch.alarms(200, values(8.0, 0.2)) == []


@pytest.mark.parametrize("every", [2, 4, 7])
def test_one_good_step_does_not_end_a_bad_state(every: int) -> None:
    """Boxes now and then, hardly any on average; or calm now and then, and far too many on average."""
    few, many, none = health(), health(), health()
    steps = range(10, 1000, 10)
    said = [a for k, step in enumerate(steps) for a in few.alarms(step, values(0.2, 2.5 if k % 10 == 9 else 0.1))]
    assert len(said) == 1
    assert " labelled ones, for 80 steps: what is not found " in said[0]
    said = [
        a for k, step in enumerate(steps) for a in many.alarms(step, values(*((99.0, 9.0) if k % every else (1, 1))))
    ]
    assert len(said) == 1
    assert "finds too much" in said[0]
    said = [
        a for k, step in enumerate(steps) for a in none.alarms(step, values(*((0.0, 0.0) if k % 7 else (0.02, 0.02))))
    ]
    assert [a[:15] for a in said] == ["no pseudo boxes"]


def test_a_state_that_was_over_is_said_again_only_after_its_time() -> None:
    watch = health()
    assert sum(len(watch.alarms(step, values(9.0, 1.0))) for step in range(10, 60, 10)) == 1
    assert [watch.alarms(step, values(0.5, 0.1)) for step in (60, 70, 80, 90)] == [[]] * 4  # over at 80
    assert [bool(watch.alarms(step, values(30.0, 9.0))) for step in (100, 110, 120)] == [True, False, False]


def test_what_a_run_that_goes_on_was_in_the_middle_of() -> None:
    before, after = health(), health()
    for step in range(10, 60, 10):
        assert before.alarms(step, values(0.3, 0.2)) == []
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    assert [step for step in range(60, 120, 10) if after.alarms(step, values(0.3, 0.2))] == [90]


def test_a_second_student_is_watched_too() -> None:
    """Instant Teaching's: either learns from labels of its own."""
    watch = health(decay=None)
    both = {**values(2.0, 0.5), **values(0.0, 0.0, which="2")}
    assert ", student2: pseudo boxes 0.0 an image (labelled 2.5; " in watch.line(30, both)
    (alarm,) = [a for step in (10, 20, 30, 40) for a in watch.alarms(step, both)]
    assert alarm.startswith("student2: no pseudo boxes for 20 steps: the student is sure of nothing")


def test_a_rare_class_has_time_to_be_found() -> None:
    """One labelled image in a thousand has it: of 80 images none need have."""
    rare = Health(("cat", "dog"), (2.0, 0.001), 0, 20, 4)
    steps = range(10, 2000, 10)
    said = [(step, a) for step in steps for a in rare.alarms(step, values(2.0, 0.0))]
    assert [step for step, _ in said] == [1260]  # five of it were to be expected in 1,250 steps of 4
    assert "(0.001 labelled ones an image)" in said[0][1]


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
    unsure = {**values(0.0, 0.0), "pseudo_scores": [3.0, 0.0, 1.0, 0.0, 0.0]}
    (alarm,) = [a for step in (10, 30) for a in watch.alarms(step, unsure)]
    assert "sure of nothing, its best score below 0.6; " in alarm
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
    assert alarms[0].startswith("class dog got no pseudo box for 20 steps (0.5 labelled ones an image): ")
    unknown = Health(("cat", "dog"), (2.0, 0.0), 0, 5, 4)
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
