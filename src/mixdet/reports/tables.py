"""AP tables for the terminal and for Markdown; numbers times 100, as papers print them, "-" where undefined."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from mixdet.evaluation import Evaluation
from mixdet.reports.text import printable

_ABREAST = 6  # numbers side by side: COCO's 12 are a table of AP and one of AR
_Rows = list[list[str]]


def ap_table(evaluation: Evaluation) -> Table:
    """The metric's full name with its number, all numbers of the metric, and one row a class."""
    grid = Table.grid()
    grid.add_row(Text(_headline(evaluation), style="bold"))
    grid.add_row(Text(_counts(evaluation), style="dim"))
    for rows in _number_rows(evaluation):
        grid.add_row(_rich(rows, left=0))
    grid.add_row(_rich(_class_rows(evaluation), left=1))
    return grid


def ap_markdown(evaluation: Evaluation) -> str:
    """What ``ap_table`` shows, as Markdown."""
    parts = [f"**{_escaped(_headline(evaluation))}**", _escaped(_counts(evaluation))]
    parts += [_markdown(rows, left=0) for rows in _number_rows(evaluation)]
    parts.append(_markdown(_class_rows(evaluation), left=1))
    return "\n\n".join(parts) + "\n"


def _headline(evaluation: Evaluation) -> str:
    note = f" ({evaluation.note})" if evaluation.note else ""
    return f"{evaluation.metric}: {_shown(evaluation.headline)}{note}"


def _counts(evaluation: Evaluation) -> str:
    return f"{evaluation.images} images, {evaluation.boxes} boxes, {evaluation.detections} detections"


def _number_rows(evaluation: Evaluation) -> list[_Rows]:
    """Tables of a header and its numbers; none where the headline is the only number."""
    names = list(evaluation.numbers) if len(evaluation.numbers) > 1 else []
    groups = [names[k : k + _ABREAST] for k in range(0, len(names), _ABREAST)]
    return [[group, [_shown(evaluation.numbers[name]) for name in group]] for group in groups]


def _class_rows(evaluation: Evaluation) -> _Rows:
    names = list(next(iter(evaluation.per_class.values())).numbers) if evaluation.per_class else []
    rows = [["class", *names, "boxes", "detections"]]
    for label, result in evaluation.per_class.items():
        numbers = [_shown(result.numbers[name]) for name in names]
        rows.append([printable(label), *numbers, str(result.boxes), str(result.detections)])
    return rows


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _rich(rows: _Rows, left: int) -> Table:
    """The first row is the header, the first ``left`` columns are text."""
    table = Table(box=box.SIMPLE_HEAD)
    for k, name in enumerate(rows[0]):
        table.add_column(Text(name), justify="left" if k < left else "right")
    for row in rows[1:]:
        table.add_row(*(Text(cell) for cell in row))  # Text: a name is never read as markup
    return table


def _markdown(rows: _Rows, left: int) -> str:
    rule = [":--" if k < left else "--:" for k in range(len(rows[0]))]
    escaped = ([_escaped(cell) for cell in row] for row in rows[1:])
    return "\n".join(_line(cells) for cells in (rows[0], rule, *escaped))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """``text`` with nothing in it that Markdown or HTML would act on."""
    return "".join({"<": "&lt;", ">": "&gt;", "&": "&amp;"}.get(c, f"\\{c}" if c in "\\`*_|[]" else c) for c in text)
