"""docs/queries.md has the ready queries of `store/reports/sample_queries.py`, and no others."""

from __future__ import annotations

import re
from pathlib import Path

from cord_worker.store.reports.sample_queries import QUERIES, RUN, SampleQuery, problems_that_no_step_moves

PAGE = (Path(__file__).parents[3] / "docs" / "queries.md").read_text(encoding="utf-8")


def test_the_page_shows_every_query_under_its_question() -> None:
    shown = re.findall(r"^### (.+?)\n\n```sql\n(.+?);\n```$", PAGE, re.MULTILINE | re.DOTALL)
    assert shown == [(query.question, query.of(RUN)) for query in QUERIES]


def test_only_the_query_about_all_runs_names_no_run() -> None:
    assert [query.question for query in QUERIES if "{run}" not in query.sql] == [
        "How do the pipelines compare? (the paper's Table 2)"
    ]
    assert "WHERE p.key =" not in PAGE, "a problem's id is the same in every run of its dataset"


def test_nearly_lost_problems_are_in_the_order_of_the_signed_lead_without_ties_of_one_text() -> None:
    (sql,) = (query.sql for query in QUERIES if "nearly lost" in query.question)
    assert "ORDER BY lead, problem" in sql
    assert "NOT (lead = 0 AND text = winning_text)" in sql


def test_the_name_of_a_run_is_quoted() -> None:
    assert SampleQuery("?", "SELECT {run}").of("it's") == "SELECT 'it''s'"
    assert "\n" not in problems_that_no_step_moves("run")
