"""docs/queries.md has the ready queries of `store/reports/sample_queries.py`, and no others."""

from __future__ import annotations

import re
from pathlib import Path

from cord_worker.store.reports.sample_queries import QUERIES, RUN, SampleQuery, problems_that_no_step_moves

PAGE = (Path(__file__).parents[3] / "docs" / "queries.md").read_text(encoding="utf-8")


def test_the_page_shows_every_query_under_its_question() -> None:
    shown = re.findall(r"^### (.+?)\n\n```sql\n(.+?);\n```$", PAGE, re.MULTILINE | re.DOTALL)
    assert shown == [(query.question, query.of(RUN)) for query in QUERIES]


def test_only_the_queries_about_all_runs_and_about_comments_name_no_run() -> None:
    assert [query.question for query in QUERIES if "{run}" not in query.sql] == [
        "How do the pipelines compare? (the paper's Table 2)",
        "What does each column of a view or table mean?",
    ]
    assert "WHERE p.key =" not in PAGE, "a problem's id is the same in every run of its dataset"


def test_a_query_about_one_problem_takes_the_first_of_the_dataset_not_the_least_id() -> None:
    about_one = [query for query in QUERIES if "one problem" in query.question or "which seed" in query.question]
    assert len(about_one) >= 3
    assert all("ORDER BY p.position LIMIT 1" in query.of(RUN) for query in about_one)
    assert not [query.question for query in QUERIES if "min(problem)" in query.sql or "min(p.key)" in query.sql]


def test_a_gain_beside_winning_steps_is_that_of_winning_steps() -> None:
    """The mean gain of all proposals, most of which lose, has another sign and another order of teachers."""
    beside = [query.sql for query in QUERIES if "AS winning_steps" in query.sql and "gain" in query.sql]
    assert len(beside) >= 3
    assert all("winning_gain" in sql and "AS mean_gain," not in sql and "AS gain\n" not in sql for sql in beside)


def test_nearly_lost_problems_are_in_the_order_of_the_signed_lead_without_losers_of_the_same_text() -> None:
    (sql,) = (query.sql for query in QUERIES if "nearly lost" in query.question)
    assert "ORDER BY lead, problem" in sql
    assert "AND NOT same_text" in sql
    assert "lead, tie," in sql


def test_the_name_of_a_run_is_quoted() -> None:
    assert SampleQuery("?", "SELECT {run}").of("it's") == "SELECT 'it''s'"
    assert "\n" not in problems_that_no_step_moves("run")
