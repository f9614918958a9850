"""Great Expectations, behind one function. No other module knows it.

It is imported on first use: that takes seconds, and its analytics must be off before.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ecgbeats.errors import ServiceError
from ecgbeats.files import folder_written_aside
from ecgbeats.validation.report import Finding, Outcome, Value
from ecgbeats.validation.suites import Expectation, Suite

_EXAMPLES = 20
_PLACES = 100


def judge(suites: Sequence[Suite], *, docs: Path | None = None) -> tuple[Outcome, ...]:
    """Let Great Expectations judge `suites`; with `docs`, build its Data Docs there.

    Everything stays in memory but the Data Docs, whose paths hold times: they are for
    people, and no reproducible output. Of a table in blocks they have a page a block, each judged
    alone; what is returned is judged over all of them.

    Raises
    ------
    ServiceError
        An expectation could not be evaluated.
    """
    if docs is None:
        return _judge(suites, None)
    with folder_written_aside(docs) as aside:
        return _judge(suites, aside.resolve())


def _judge(suites: Sequence[Suite], docs: Path | None) -> tuple[Outcome, ...]:
    os.environ["GX_ANALYTICS_ENABLED"] = "False"
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    _replace_docs_sites(context, docs)
    source = context.data_sources.add_pandas("memory")
    outcomes = []
    for suite in suites:
        batch = source.add_dataframe_asset(suite.name).add_batch_definition_whole_dataframe("all")
        definition = context.validation_definitions.add(
            gx.ValidationDefinition(
                name=suite.name, data=batch, suite=context.suites.add(_gx_suite(gx, suite))
            )
        )
        checkpoint = context.checkpoints.add(
            gx.Checkpoint(
                name=suite.name,
                validation_definitions=[definition],
                result_format={
                    "result_format": "COMPLETE",
                    "unexpected_index_column_names": list(suite.key),
                    "include_unexpected_rows": False,
                },
            )
        )
        parts: dict[str, list[Outcome]] = {each.name: [] for each in suite.expectations}
        for block in suite.blocks:
            run = checkpoint.run(batch_parameters={"dataframe": block})
            (result,) = run.run_results.values()
            by_name = {_name_of(each): each for each in result.results}
            for each in suite.expectations:
                parts[each.name].append(_outcome(suite, each, by_name[each.name]))
        outcomes += [_whole(each) for each in parts.values()]
    if docs is not None:
        context.build_data_docs()
    return tuple(outcomes)


def _replace_docs_sites(context: Any, docs: Path | None) -> None:
    # An ephemeral context comes with a site in a temporary folder that it never removes.
    for name, site in dict(context.variables.data_docs_sites).items():
        context.delete_data_docs_site(name)
        shutil.rmtree(site["store_backend"]["base_directory"], ignore_errors=True)
    if docs is not None:
        context.add_data_docs_site(
            "data_docs",
            {
                "class_name": "SiteBuilder",
                "show_how_to_buttons": False,
                "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
                "store_backend": {
                    "class_name": "TupleFilesystemStoreBackend",
                    "base_directory": str(docs),
                },
            },
        )


def _gx_suite(gx: Any, suite: Suite) -> Any:
    return gx.ExpectationSuite(
        name=suite.name,
        expectations=[
            getattr(gx.expectations, expectation.gx)(
                **expectation.kwargs,
                row_condition=_row_condition(expectation),
                severity=expectation.severity,
                description=expectation.words,
                meta={"name": expectation.name},
            )
            for expectation in suite.expectations
        ],
    )


def _row_condition(expectation: Expectation) -> Any | None:
    if expectation.rows is None:
        return None
    from great_expectations.expectations.row_conditions import Column

    column, values = expectation.rows
    # It takes no bool in a list, and compares numbers with bool columns.
    return Column(column).is_in([int(v) if isinstance(v, bool) else v for v in values])


def _name_of(evaluated: Any) -> str:
    return str(evaluated.expectation_config.meta["name"])


def _outcome(suite: Suite, expectation: Expectation, evaluated: Any) -> Outcome:
    result: Mapping[str, Any] = evaluated.result
    if not result:
        raise ServiceError(
            f"Great Expectations: {suite.name}.{expectation.name} could not be evaluated: "
            f"{_exception_in(evaluated.exception_info)}"
        )
    column = str(expectation.kwargs.get("column", ""))
    if "element_count" in result:
        checked = result["element_count"] - result.get("missing_count", 0)
        findings = [
            _finding(row, suite.key, column) for row in result.get("unexpected_index_list") or ()
        ]
    else:  # of the table as a whole
        checked = 1
        findings = [] if evaluated.success else [Finding({"rows": result["observed_value"]}, None)]
    return Outcome(
        suite=suite.name,
        name=expectation.name,
        words=expectation.words,
        expectation=expectation.gx,
        column=column,
        unit=expectation.unit,
        severity=expectation.severity,
        success=bool(evaluated.success),
        checked=int(checked),
        unexpected=len(findings),
        allowed_share=round(1 - float(expectation.kwargs.get("mostly", 1)), 9),
        found_in=_count_places(findings),
        examples=_one_of_each_first(findings)[:_EXAMPLES],
    )


def _whole(parts: Sequence[Outcome]) -> Outcome:
    """The outcome of one expectation over all blocks of its table, with examples of it alone."""
    checked, unexpected = (sum(getattr(p, of) for p in parts) for of in ("checked", "unexpected"))
    found_in: Counter[str] = Counter()
    for part in parts:
        found_in.update(part.found_in)
    first = parts[0]
    return replace(
        first,
        # Of a share of the table a block may have more, and the whole not.
        success=first.success if len(parts) == 1 else unexpected <= first.allowed_share * checked,
        checked=checked,
        unexpected=unexpected,
        found_in=dict(found_in.most_common(_PLACES)),
        examples=_one_of_each_first([e for part in parts for e in part.examples])[:_EXAMPLES],
    )


def _finding(row: Mapping[str, Any], key: Sequence[str], column: str) -> Finding:
    value = None if column in key else _plain(row.get(column))
    return Finding({name: _plain(row[name]) for name in key}, value)


def _plain(value: Any) -> Value:
    """A JSON value: numpy scalars unpacked, numbers to six digits (float noise is no fact)."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return value if isinstance(value, str | int | bool | None) else str(value)


def _place(finding: Finding) -> str:
    return str(next(iter(finding.at.values())))


def _count_places(findings: Iterable[Finding]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for finding in findings:
        counts[_place(finding)] = counts.get(_place(finding), 0) + 1
    return counts


def _one_of_each_first(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The first finding of every record, then the second of each, and so on."""
    seen: dict[str, int] = {}
    rounds = []
    for finding in findings:
        place = _place(finding)
        rounds.append(seen.get(place, 0))
        seen[place] = rounds[-1] + 1
    return tuple(findings[i] for i in sorted(range(len(findings)), key=rounds.__getitem__))


def _exception_in(info: Mapping[str, Any]) -> str:
    message = info.get("exception_message")
    if message is None:
        details = [value for value in info.values() if isinstance(value, Mapping)]
        message = details[0].get("exception_message") if details else None
    return str(message or "no reason given")
