"""`cordctl enqueue` and `validate`: all of a dataset or nothing, and never twice."""

from __future__ import annotations

import json

import psycopg

from tests.support.cordctl_process import Cordctl, problem


def problems_of(cordctl: Cordctl) -> dict[str, int]:
    document: dict[str, int] = json.loads(cordctl("status", "--json").stdout)["problems"]
    return document


def test_enqueuing_again_adds_nothing_and_says_so(cordctl: Cordctl) -> None:
    first = cordctl("enqueue", "problems.jsonl").stdout
    second = cordctl("enqueue", "problems.jsonl").stdout
    assert "5 problems added" in first
    assert "nothing new (5 already there)" in second
    assert {state: number for state, number in problems_of(cordctl).items() if number} == {"total": 5, "queued": 5}


def test_a_grown_dataset_adds_only_its_new_problems(cordctl: Cordctl) -> None:
    cordctl("enqueue", "problems.jsonl")
    cordctl.write_problems(*(problem(number) for number in range(7)))
    report = json.loads(cordctl("enqueue", "problems.jsonl", "--json").stdout)
    assert (report["added"], report["already"], report["created"]) == (2, 5, False)


def test_the_run_is_named_after_dataset_and_configuration(cordctl: Cordctl) -> None:
    first = json.loads(cordctl("enqueue", "problems.jsonl", "--json").stdout)["run"]
    config = cordctl.folder / "cord.toml"
    config.write_text(config.read_text(encoding="utf-8").replace("beam_width = 2", "beam_width = 3"), encoding="utf-8")
    second = json.loads(cordctl("enqueue", "problems.jsonl", "--json").stdout)["run"]
    assert first.startswith("problems-")
    assert second.startswith("problems-")
    assert first != second


def test_another_configuration_under_the_same_name_is_refused(cordctl: Cordctl) -> None:
    cordctl("enqueue", "problems.jsonl", "--run", "mine")
    config = cordctl.folder / "cord.toml"
    config.write_text(config.read_text(encoding="utf-8").replace("max_steps = 4", "max_steps = 5"), encoding="utf-8")
    assert "another configuration" in cordctl("enqueue", "problems.jsonl", "--run", "mine", exits=1).stderr


def test_a_bad_row_is_named_and_nothing_is_enqueued(cordctl: Cordctl) -> None:
    cordctl.write_problems(problem(1), {"id": "p2", "question": " ", "answer": "4"}, problem(3))
    error = cordctl("enqueue", "problems.jsonl", exits=1).stderr
    assert "problems.jsonl:2" in error
    assert "question" in error
    assert "nothing was enqueued" in error
    assert "there are no runs yet" in cordctl("runs").stdout


def test_skipped_rows_are_written_next_to_the_dataset_once(cordctl: Cordctl) -> None:
    cordctl.write_problems(problem(1), {"id": "p2", "question": " ", "answer": "4"}, problem(1), problem(3))
    for added in (2, 0):
        report = json.loads(cordctl("enqueue", "problems.jsonl", "--skip-invalid", "--json").stdout)
        assert (report["added"], report["rejected"]) == (added, 2)
        rejects = (cordctl.folder / "problems.jsonl.rejects.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["location"] for line in rejects] == ["problems.jsonl:2", "problems.jsonl:3"]


def test_a_dry_run_checks_everything_and_writes_nothing(cordctl: Cordctl) -> None:
    cordctl.write_problems(problem(1), {"id": "p2", "question": " ", "answer": "4"})
    assert "problems.jsonl:2" in cordctl("enqueue", "problems.jsonl", "--dry-run", exits=1).stderr
    output = cordctl("enqueue", "problems.jsonl", "--dry-run", "--skip-invalid").stdout
    assert "1 problem would be added" in output
    assert sorted(path.name for path in cordctl.folder.iterdir()) == ["cord.toml", "problems.jsonl"]
    assert "there are no runs yet" in cordctl("runs").stdout


def test_fields_and_a_limit_can_be_chosen(cordctl: Cordctl) -> None:
    cordctl.write_problems(*({"nr": n, "text": f"Count to {n}", "value": 10 * n} for n in range(1, 9)))
    options = ("--question-field", "text", "--answer-field", "value", "--id-field", "nr", "--limit", "3")
    assert "3 problems added" in cordctl("enqueue", "problems.jsonl", *options).stdout
    with psycopg.connect(cordctl.environment["CORD_DATABASE_URL"].replace("+psycopg", "")) as connection:
        rows = connection.execute("SELECT key, question, answer FROM problems ORDER BY position").fetchall()
    assert rows == [("1", "Count to 1", "10"), ("2", "Count to 2", "20"), ("3", "Count to 3", "30")]


def test_validate_names_every_flaw_and_needs_no_database(cordctl: Cordctl) -> None:
    cordctl.environment = {}
    assert "5 problems, 0 invalid rows" in cordctl("validate", "problems.jsonl").stdout
    cordctl.write_problems(problem(1), problem(1), {"id": "x\x1b[2J", "question": "", "answer": "1"})
    result = cordctl("validate", "problems.jsonl", exits=4)
    assert "problems.jsonl:2: field 'id' is 'p1', which was given before, at problems.jsonl:1" in result.stderr
    assert "problems.jsonl:3" in result.stderr
    assert "enqueued" not in result.stderr  # it enqueues nothing, and has no --skip-invalid
    assert "--skip-invalid" not in result.stderr
    assert "1 problem, 2 invalid rows" in result.stdout
    assert "\x1b" not in result.stdout + result.stderr


def test_a_repeated_row_without_an_id_is_named_by_its_content(cordctl: Cordctl) -> None:
    row = {"question": "How many?", "answer": "4"}
    cordctl.write_problems(row, {"question": "Another?", "answer": "5"}, row)
    for command, code in (("validate", 4), ("enqueue", 1)):
        error = cordctl(command, "problems.jsonl", exits=code).stderr
        assert "problems.jsonl:3: question and answer are those of problems.jsonl:1\n" in error
        assert "id '" not in error
    cordctl("enqueue", "problems.jsonl", "--skip-invalid")
    (rejected,) = (cordctl.folder / "problems.jsonl.rejects.jsonl").read_text(encoding="utf-8").splitlines()
    assert (json.loads(rejected)["field"], json.loads(rejected)["location"]) == (None, "problems.jsonl:3")
    cordctl.write_problems({**row, "passage": "One."}, {**row, "passage": "Two."})
    for command, code in (("validate", 4), ("enqueue", 1)):
        assert "only the passage is another" in cordctl(command, "problems.jsonl", exits=code).stderr
    cordctl("enqueue", "problems.jsonl", "--limit", "1", "--run", "passages")
    cordctl.write_problems({**row, "passage": "Two."})
    conflict = cordctl("enqueue", "problems.jsonl", "--run", "passages", exits=1).stderr
    assert "already holds a problem with this question and answer" in conflict


def test_validate_checks_rows_as_enqueue_does_with_a_configuration(cordctl: Cordctl) -> None:
    cordctl.write_problems(problem(1), {**problem(2), "verify": "sympy"}, {**problem(3), "final": ["yes"]})
    with (cordctl.folder / "cord.toml").open("a", encoding="utf-8") as config:
        config.write('\n[verify]\nreference_field = "final"\n')
    assert "3 problems, 0 invalid rows" in cordctl("validate", "problems.jsonl").stdout
    validated = cordctl("validate", "problems.jsonl", "--config", "cord.toml", exits=4)
    assert "1 problem, 2 invalid rows" in validated.stdout
    flaws = validated.stderr.splitlines()
    assert [flaw.partition(" is ")[0] for flaw in flaws] == [
        "problems.jsonl:2: field 'verify'",
        "problems.jsonl:3: field 'final'",
    ]
    assert flaws[0] in cordctl("enqueue", "problems.jsonl", exits=1).stderr


def test_an_empty_database_is_refused_with_the_command_that_makes_the_tables(
    cordctl: Cordctl, empty_database_url: str
) -> None:
    cordctl.environment["CORD_DATABASE_URL"] = empty_database_url
    error = cordctl("enqueue", "problems.jsonl", exits=1).stderr
    assert "the database is empty" in error
    assert "cordctl db upgrade" in error
    cordctl("db", "check", exits=1)
    cordctl("db", "upgrade")
    assert "the schema is current" in cordctl("db", "check").stdout
    cordctl("enqueue", "problems.jsonl")


def test_an_old_schema_is_refused_with_the_command_that_upgrades_it(cordctl: Cordctl) -> None:
    assert "the database is at revision 0014" in cordctl("db", "downgrade", "0014", "--yes").stdout
    error = cordctl("enqueue", "problems.jsonl", exits=1).stderr
    assert "the database schema is at 0014" in error
    assert "cordctl db upgrade" in error
    cordctl("db", "upgrade")
    cordctl("enqueue", "problems.jsonl")


def test_a_downgrade_to_base_drops_every_table(cordctl: Cordctl) -> None:
    cordctl("enqueue", "problems.jsonl")
    cordctl("db", "downgrade", "base", "--yes")
    assert "the database has no schema" in cordctl("db", "current").stdout
    with psycopg.connect(cordctl.environment["CORD_DATABASE_URL"].replace("+psycopg", "")) as connection:
        left = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert left == [("alembic_version",)]


SOLVED: dict[str, object] = {"id": "s", "question": "Half of 84?", "answer": "Half of 84 is <<84/2=42>>42.\n#### 42"}


def test_validate_and_enqueue_report_a_worked_solution_and_keep_it_whole_if_asked(cordctl: Cordctl) -> None:
    cordctl.write_problems(SOLVED, {**SOLVED, "id": "t"}, problem(3))
    told = "field 'answer', 2 rows: worked solution, whose final answer is the answer"
    for command in (("validate", "problems.jsonl"), ("enqueue", "problems.jsonl")):
        output = cordctl(*command).stdout
        assert told in output
        assert "first problems.jsonl:1: '42' out of" in output
    document = json.loads(cordctl("validate", "problems.jsonl", "--json").stdout)
    assert document["first"]["answer"] == "42"
    assert [(change["change"], change["rows"]) for change in document["changes"]] == [("final_answer", 2)]
    as_is = cordctl("validate", "problems.jsonl", "--answer-as-is", "--json").stdout
    assert json.loads(as_is)["first"]["answer"] == SOLVED["answer"]
    conflict = cordctl("enqueue", "problems.jsonl", "--answer-as-is", exits=1).stderr
    assert "field 'id' is 's': run" in conflict


def test_lost_backslashes_stop_everything_or_are_restored_and_counted(cordctl: Cordctl) -> None:
    path = cordctl.folder / "problems.jsonl"
    path.write_text('{"id": "a", "question": "Is \\frac{1}{2} more than 0?", "answer": "yes"}\n', encoding="utf-8")
    refused = cordctl("enqueue", "problems.jsonl", exits=1).stderr
    assert "problems.jsonl:1: field 'question' holds a form feed before 'rac'" in refused
    assert "--repair-latex" in refused
    output = cordctl("enqueue", "problems.jsonl", "--repair-latex").stdout
    assert "1 problem added" in output
    assert "1 row (1 place): LaTeX whose backslashes were lost, restored; first problems.jsonl:1: \\frac" in output


def test_validate_names_the_fields_that_it_took(cordctl: Cordctl) -> None:
    cordctl.write_problems({"prompt": [{"role": "user", "content": "6 * 7?"}], "reward_model": {"ground_truth": "42"}})
    output = cordctl("validate", "problems.jsonl").stdout
    assert "question from 'prompt', answer from 'reward_model.ground_truth', id made from the content" in output
    assert "field 'prompt', 1 row: messages" in output
