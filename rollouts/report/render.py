"""Fills `report.j2` with a summary and its rows."""

from collections.abc import Iterable

from vega_policy.rollouts.episode import Row
from vega_policy.rollouts.results import Summary, format_rate
from vega_policy.rollouts.settings import flatten


def render_report(summary: Summary, rows: Iterable[Row]) -> str:
    """Render the report.

    Args:
        summary: From `summarise`.
        rows: The rows it was made from; those filmed and those with errors are shown one by one.

    Returns:
        A complete HTML document; links to films are relative to the results folder.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("vega_policy.rollouts.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["rate"] = format_rate
    environment.filters["flatten"] = flatten
    ordered = sorted(rows, key=lambda row: row.key)
    return environment.get_template("report.j2").render(
        summary=summary,
        films=[row for row in ordered if row.video],
        errors=[row for row in ordered if row.outcome == "error"],
    )
