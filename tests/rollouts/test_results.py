"""Rows become rates, a table and a report that tell errors from failures."""

from dataclasses import replace

import pytest

from vega_policy.rollouts.episode import Episode, Row, Task, error_row
from vega_policy.rollouts.report.render import render_report
from vega_policy.rollouts.results import format_rate, format_table, measure_throughput, summarise, tally

TASK = Task("libero_spatial", 4, "pick up the <bowl> & place it")


def rows(successes: int, failures: int, errors: int = 0) -> list[Row]:
    outcomes = ["success"] * successes + ["failure"] * failures + ["error"] * errors
    row = replace(error_row(Episode(TASK, 0, 1), "", 2.0), error=None, steps=100, decisions=10)
    return [
        replace(row, trial=trial, outcome=outcome, error="Traceback: a fault" if outcome == "error" else None)
        for trial, outcome in enumerate(outcomes)
    ]


def planned(number: int) -> list[Episode]:
    return [Episode(TASK, trial, seed=1) for trial in range(number)]


def test_errors_are_in_no_rate() -> None:
    counts = tally(rows(485, 15, errors=7))
    assert (counts["episodes"], counts["successes"], counts["failures"], counts["errors"]) == (
        507,
        485,
        15,
        7,
    )
    assert format_rate(counts) == "97.0% [95.1, 98.2]"
    assert format_rate(tally(rows(0, 0, errors=2))) == "-"


def test_summary_of_a_complete_run() -> None:
    summary = summarise(reversed(rows(9, 1)), planned(10), None, {"assets": "official"})
    assert summary["comparable"] is True
    suite = summary["suites"]["libero_spatial"]
    assert suite["ci95"] == pytest.approx([0.596, 0.982], abs=5e-4)
    assert suite["tasks"] == summary["overall"]["tasks"]
    (task,) = suite["tasks"]
    assert (task["task_id"], task["task"], task["success_rate"]) == (4, TASK.name, 0.9)
    assert task["failed_trials"] == [9]


@pytest.mark.parametrize(("present", "expected"), [(rows(3, 1, errors=1), 5), (rows(3, 1), 5)])
def test_errors_and_gaps_are_not_comparable(present: list[Row], expected: int) -> None:
    summary = summarise(present, planned(expected), None, {})
    assert summary["comparable"] is False
    assert summary["missing"] == expected - len(present)
    assert "NOT COMPARABLE" in format_table(summary)
    assert "Not comparable." in render_report(summary, present)


def test_throughput_is_per_wall_time() -> None:
    measured = measure_throughput(rows(3, 1), elapsed_s=8.0, num_workers=2)
    assert measured["control_steps_per_s"] == 50
    assert measured["decisions_per_s"] == 5
    assert measured["episodes_per_hour"] == 1800


def test_table_has_a_line_per_task_suite_and_whole() -> None:
    lines = format_table(summarise(rows(9, 1), planned(10), None, {})).splitlines()
    assert len(lines) == 4
    assert [line.split()[0] for line in lines] == ["task", "libero_spatial", "libero_spatial", "overall"]
    assert all(line.endswith("10         9      0  90.0% [59.6, 98.2]") for line in lines[1:])


def test_report_stands_alone_and_says_everything() -> None:
    present = rows(8, 1, errors=1)
    present[0] = replace(present[0], video="videos/a.mp4")
    throughput = measure_throughput(present, 10.0, 2)
    summary = summarise(
        present, planned(10), throughput, {"assets": "official", "versions": {"mujoco": "3.3.2"}}
    )
    html = render_report(summary, present)
    assert html.count("88.9% [56.5, 98.0]") >= 3
    assert "pick up the &lt;bowl&gt; &amp; place it" in html
    assert '<video controls preload="metadata" src="videos/a.mp4">' in html
    assert "Traceback: a fault" in html
    assert "<td>versions.mujoco</td>" in html
    assert "control_steps_per_s" in html
    assert not any(remote in html for remote in ("http://", "https://", "<script"))
