"""From rows to numbers: success rates with intervals, errors counted apart, throughput.

A rate is over the episodes that were played to their end. While errors or missing episodes exist the
summary says that it is not comparable: leaving out the episodes that crash flatters a policy, counting them
as failures blames it for the infrastructure.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vega_policy.rollouts.episode import Episode, Row
from vega_policy.rollouts.statistics import wilson

Summary = dict[str, Any]


def tally(rows: Sequence[Row]) -> dict[str, Any]:
    """Count outcomes; `success_rate` and its Wilson interval `ci95` are in [0, 1], or None without any."""
    counts = Counter(row.outcome for row in rows)
    played = counts["success"] + counts["failure"]
    return {
        "episodes": len(rows),
        "successes": counts["success"],
        "failures": counts["failure"],
        "errors": counts["error"],
        "success_rate": counts["success"] / played if played else None,
        "ci95": list(wilson(counts["success"], played)) if played else None,
    }


def summarise(
    rows: Iterable[Row],
    planned: Sequence[Episode],
    throughput: Mapping[str, Any] | None,
    provenance: Mapping[str, Any],
) -> Summary:
    """Build the content of `summary.json`.

    Args:
        rows: One per episode that has ended, in any order.
        planned: All episodes of the evaluation.
        throughput: From `measure_throughput`; None if nothing was played.
        provenance: Whatever identifies software, hardware, assets and configuration.
    """
    ordered = sorted(rows, key=lambda row: row.key)
    suites = {row.suite: [other for other in ordered if other.suite == row.suite] for row in ordered}
    missing = len({episode.key for episode in planned} - {row.key for row in ordered})
    return {
        "comparable": not missing and not any(row.outcome == "error" for row in ordered),
        "planned": len(planned),
        "missing": missing,
        "overall": {**tally(ordered), "tasks": _tasks(ordered)},
        "suites": {suite: {**tally(members), "tasks": _tasks(members)} for suite, members in suites.items()},
        "throughput": throughput,
        "provenance": dict(provenance),
    }


def _tasks(rows: Sequence[Row]) -> list[dict[str, Any]]:
    tasks: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        tasks.setdefault((row.suite, row.task_id), []).append(row)
    return [
        {
            "suite": suite,
            "task_id": task_id,
            "task": members[0].task,
            **tally(members),
            "failed_trials": [row.trial for row in members if row.outcome == "failure"],
        }
        for (suite, task_id), members in tasks.items()
    ]


def measure_throughput(rows: Sequence[Row], elapsed_s: float, num_workers: int) -> dict[str, Any]:
    """Rates over the wall time of one session, building environments and retries included."""
    return {
        "control_steps_per_s": sum(row.steps for row in rows) / elapsed_s,
        "decisions_per_s": sum(row.decisions for row in rows) / elapsed_s,
        "episodes_per_hour": len(rows) / elapsed_s * 3600,
        "episodes": len(rows),
        "elapsed_s": elapsed_s,
        "num_workers": num_workers,
    }


def format_rate(counts: Mapping[str, Any]) -> str:
    """Success rate with its interval in percent, e.g. `97.0% [95.1, 98.2]`."""
    if counts["success_rate"] is None:
        return "-"
    low, high = (100 * bound for bound in counts["ci95"])
    return f"{100 * counts['success_rate']:.1f}% [{low:.1f}, {high:.1f}]"


def format_table(summary: Summary) -> str:
    """Tasks, suites and the whole as lines of text for a terminal."""
    lines = [_line("task", "episodes", "successes", "errors", "success rate [95% interval]")]
    for suite, counts in summary["suites"].items():
        lines += [_counts_line(f"{suite} {task['task_id']} {task['task']}", task) for task in counts["tasks"]]
        lines.append(_counts_line(suite, counts))
    lines.append(_counts_line("overall", summary["overall"]))
    if not summary["comparable"]:
        lines.append(
            f"NOT COMPARABLE: {summary['overall']['errors']} episodes ended in an error and "
            f"{summary['missing']} of {summary['planned']} are missing; run again with --resume=true"
        )
    return "\n".join(lines)


def _counts_line(name: str, counts: Mapping[str, Any]) -> str:
    return _line(name, counts["episodes"], counts["successes"], counts["errors"], format_rate(counts))


def _line(name: str, episodes: object, successes: object, errors: object, rate: str) -> str:
    name = name if len(name) <= 60 else f"{name[:57]}..."
    return f"{name:<60} {episodes:>8} {successes:>9} {errors:>6}  {rate}"
