"""The card of an exported dataset: README.md as the Hugging Face hub and `datasets` read it.

The card is made of stored values only, and holds nothing that differs between equal runs: no times, workers, keys or
paths of this machine. Its last line is a hash of all others: a card without this line, or with another hash, was
written or changed by hand and is not silently replaced.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cord_worker.config import ModelConfig, ProverConfig, RunConfig
from cord_worker.display_text import counted, plural_of, shown
from cord_worker.export.file_types import FileType, file_type_of
from cord_worker.export.format import Format
from cord_worker.export.markdown import code, code_block, json_block, plain, table
from cord_worker.export.public_names import public_name
from cord_worker.export.report import UNFIT, ExportReport
from cord_worker.export.schema import Fields, Schema
from cord_worker.store.reports.status import Counts, Totals

CARD_NAME = "README.md"

_SIGNATURE = re.compile(r"<!-- written by cordctl export --card; sha256 of the lines above: ([0-9a-f]{64}) -->\n\Z")
_DTYPES = {"text": "string", "number": "float64", "integer": "int64", "flag": "bool"}
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"),
          (10**8, "10M<n<100M"), (10**9, "100M<n<1B"))  # fmt: skip
_LARGEST = "n>1B"
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
_WHOLE = ("sample", "curation", "integration")
"""Pipelines in which each teacher writes whole trajectories."""
_MODEL_FIELDS = {"revision", "engine", "dtype", "max_model_len", "trust_remote_code", "head", "system_prompt",
                 "think_open", "think_close", "template_options"}  # fmt: skip
_NOT_COPIED: dict[str, bool | set[str]] = {
    "models": True,
    "prices": True,
    "run": {"max_active", "priority", "max_attempts", "max_tokens", "max_cost"},
}
"""Parts of the configuration that `public_config` does not copy: they decide no result, or are written without folders
(`models`)."""


@dataclass(frozen=True, slots=True)
class CardRescoring:
    """An exported rescoring. `model` is the path or hub id of its prover, `prover` how the prover scores. `scored`
    candidates have a score; `invalid` ones could not be scored."""

    name: str
    model: str
    scoring_mode: str | None
    system_prompt: str | None
    prover: ProverConfig
    scored: int
    invalid: int


@dataclass(frozen=True, slots=True)
class CardFacts:
    """The facts from which a card is written. `output` is the file's name in the command. `files` gives the split and
    the number of rows of each file, by name. `command` holds the options of the export, without paths. `datasets` are
    the hub's datasets from which problems were read. `repository` is the hub's dataset that the card is for, if any.
    `trimmed_from` and `trim_above` are the source and the threshold of a trimmed run."""

    run: str
    config: RunConfig
    config_fingerprint: str
    run_digest: str | None
    prompt_date: str
    scoring_mode: str | None
    code_version: str
    counts: Counts
    totals: Totals
    results: int
    datasets: Sequence[Mapping[str, str]]
    format: Format
    fields: Fields
    report: ExportReport
    output: str
    files: Mapping[str, tuple[str, int]]
    command: Sequence[str]
    license: str | None
    repository: str | None
    trimmed_from: str | None
    trim_above: float | None
    rescoring: CardRescoring | None


def card_text(facts: CardFacts) -> str:
    """The card; the same facts give the same text."""
    lines = [
        *_front_matter(facts),
        "",
        f"# {plain(facts.run)}",
        "",
        *_license_lines(facts),
        "",
        f"Reasoning trajectories of several teachers, made with cord-worker {code(facts.code_version)} (CoRD). Rows "
        f"are in the format {code(facts.format.name)}: {facts.format.purpose}.",
        *_section("Load", _loading(facts)),
        *_section("How it was made", _making(facts)),
        *_section("Problems and results", _counts(facts)),
        *_section("Statistics", _statistics(facts)),
        *_section("This export", _export(facts)),
        *_section("Make it again", _reproduction(facts)),
        *_section("Known limits", _limits(facts)),
        *_section("Configuration", json_block(public_config(facts.config))),
        "",
    ]
    text = "\n".join(lines) + "\n"
    return f"{text}<!-- written by cordctl export --card; sha256 of the lines above: {_hash(text)} -->\n"


def is_unchanged_card(text: str) -> bool:
    """Whether `card_text` wrote the text, and nobody has changed it since."""
    signature = _SIGNATURE.search(text)
    return signature is not None and signature[1] == _hash(text[: signature.start()])


def public_config(config: RunConfig) -> dict[str, Any]:
    """The parts of the configuration that decide the results, without folders and servers."""
    document = config.model_dump(mode="json", exclude=_NOT_COPIED)
    return {"models": {name: _public_model(model) for name, model in config.models.items()}, **document}


def _public_model(model: ModelConfig) -> dict[str, Any]:
    shown_fields = model.model_dump(mode="json", include=_MODEL_FIELDS, exclude_defaults=True)
    document = {"path": public_name(model.path), "engine": model.engine, **shown_fields}
    if model.gguf_file is not None:
        document["gguf_file"] = public_name(model.gguf_file)
    if model.vllm is not None:
        document["vllm"] = model.vllm.model_dump(mode="json", include={"quantization", "kv_cache_dtype"})
    if model.openai is not None:
        named = None if model.openai.model is None else public_name(model.openai.model)
        document["openai"] = {"model": named, "api": model.openai.api}
    return document


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return ["", f"## {title}", "", *lines]


# Front matter.


def _front_matter(facts: CardFacts) -> list[str]:
    import yaml

    rows = sum(count for _, count in facts.files.values())
    document: dict[str, Any] = {} if facts.license is None else {"license": facts.license}
    document |= {
        "pretty_name": facts.run,
        "task_categories": ["reinforcement-learning" if facts.format.name == "verl" else "text-generation"],
        "size_categories": [next((name for bound, name in _SIZES if rows < bound), _LARGEST)],
        "tags": ["synthetic", "reasoning", "distillation", "cord", f"cord-{facts.format.name}"],
    }
    listed = [{"split": split, "path": name} for name, (split, count) in facts.files.items() if _is_listed(name, count)]
    if listed:
        features = [{"name": name, **_feature(kind)} for name, kind in facts.fields.items()]
        document |= {
            "dataset_info": {"config_name": "default", "features": features},
            "configs": [{"config_name": "default", "data_files": listed}],
        }
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=False, default_flow_style=False, width=2**31)
    return ["---", *text.rstrip("\n").split("\n"), "---"]


def _is_listed(name: str, rows: int) -> bool:
    """Whether `datasets` can load the file. It refuses an empty file of JSON lines."""
    return rows > 0 or file_type_of(name) is FileType.PARQUET


def _feature(kind: Schema) -> dict[str, Any]:
    """A field's type, in the form that `datasets` writes in a card."""
    if isinstance(kind, str):
        return {"dtype": _DTYPES[kind]}
    if isinstance(kind, list):
        inner = _feature(kind[0])
        return {"list": inner.get("dtype") or inner.get("struct") or inner}
    return {"struct": [{"name": name, **_feature(inner)} for name, inner in kind.items()]}


# Sections.


def _license_lines(facts: CardFacts) -> list[str]:
    if facts.license is None:
        return [
            "> **The licence is to be filled in.** Add `license: NAME` above, or export again with `--license NAME`. "
            "The licences of the questions and of the teachers' models limit the choice."
        ]
    return [f"Licence: {code(facts.license)}. The licences of the questions and of the teachers' models apply too."]


def _loading(facts: CardFacts) -> list[str]:
    name = facts.repository or "FOLDER"
    listed = [split for file, (split, count) in facts.files.items() if _is_listed(file, count)]
    where = "" if facts.repository else "FOLDER is the folder of this file. "
    lines = table(
        ("file", "split", "rows"),
        ((code(file), code(split), f"{count:,}") for file, (split, count) in facts.files.items()),
    )
    if not listed:
        return [*lines, "", "There is no row to load."]
    script = f'from datasets import load_dataset\n\nrows = load_dataset("{name}", split="{listed[0]}")'
    return [*lines, "", f"{where}A row has the fields {', '.join(code(field) for field in facts.fields)}.", "",
            *code_block(script, "python")]  # fmt: skip


def _making(facts: CardFacts) -> list[str]:
    config = facts.config
    search = config.search
    trimming = f"winners end at the first step from which every score is above {facts.trim_above}"
    rows = [
        ("pipeline", code(search.pipeline)),
        *([] if facts.trimmed_from is None else [("trimmed from", f"{code(facts.trimmed_from)}: {trimming}")]),
        *([("beam width", f"{search.beam_width}")] if search.pipeline == "cord" else []),
        *([("trajectories of each teacher", f"{search.trajectories}")] if search.pipeline in _WHOLE else []),
        ("samples per teacher and step", f"{search.samples_per_teacher}"),
        ("most steps", f"{search.max_steps}"),
        ("thinking budget (tokens)", f"{search.thinking_tokens:,}"),
        ("selection", code(search.selection)),
        ("segmentation", code(search.segmentation)),
        ("prover", _model_cell(config.prover_model) if config.is_scored else "none: nothing is scored"),
        *([] if config.reward is None else [("reward model", _model_cell(config.models[config.reward.model]))]),
        ("scoring mode", "none" if facts.scoring_mode is None else code(facts.scoring_mode)),
        *([] if facts.rescoring is None else _rescoring_rows(facts.rescoring)),
        ("check of answers", code(config.verify.method)),
        ("judge", "none" if config.judge_model is None else _model_cell(config.judge_model)),
        ("seed", f"{config.run.seed}"),
        ("date in prompts", code(facts.prompt_date)),
        ("configuration fingerprint", code(facts.config_fingerprint)),
        ("run digest", "none" if facts.run_digest is None else code(facts.run_digest)),
        ("code version", code(facts.code_version)),
    ]
    lines = table(("", ""), rows)
    teachers = (
        (
            code(teacher.name),
            _model_cell(config.teacher_model(teacher)),
            *(f"{getattr(teacher, name):g}" for name in _SAMPLING),
        )
        for teacher in config.all_teachers
    )
    lines += ["", *table(("teacher", "model", *_SAMPLING), teachers)]
    for teacher in config.all_teachers:
        prompt = config.system_prompt(teacher)
        if prompt is not None:
            lines += ["", f"System prompt of {code(teacher.name)}:", "", *code_block(prompt, "text")]
    if facts.rescoring is not None:
        named = code(facts.rescoring.name)
        template = facts.rescoring.prover.scoring_template
        lines += ["", f"Scoring template of the rescoring {named}:", "", *code_block(template, "text")]
        if facts.rescoring.system_prompt is not None:
            prompt = facts.rescoring.system_prompt
            lines += ["", f"System prompt of the rescoring {named}:", "", *code_block(prompt, "text")]
    return lines


def _rescoring_rows(rescoring: CardRescoring) -> list[tuple[str, str]]:
    mode = "none" if rescoring.scoring_mode is None else code(rescoring.scoring_mode)
    return [
        ("rescoring", f"{code(rescoring.name)}, by {code(public_name(rescoring.model))}"),
        ("scoring mode of the rescoring", mode),
        ("score of the rescoring", code(rescoring.prover.score)),
        ("candidates of the rescoring", f"{rescoring.scored:,} scored, {rescoring.invalid:,} could not be scored"),
    ]


def _model_cell(model: ModelConfig) -> str:
    name = model.path if model.openai is None or model.openai.model is None else model.openai.model
    revision = "" if model.revision is None else f" at {code(model.revision)}"
    return f"{code(public_name(name))}{revision}, {plain(model.engine)}"


def _counts(facts: CardFacts) -> list[str]:
    problems, totals = facts.counts.problems, facts.totals
    unfinished = facts.counts.total - facts.counts.final
    rows = [
        ("problems", facts.counts.total),
        ("done", problems.get("done", 0)),
        ("failed", problems.get("failed", 0)),
        ("cancelled", problems.get("cancelled", 0)),
        ("unfinished when this was exported", unfinished),
        *_source_rows(facts),
        ("results (final answers)", facts.results),
        ("found correct", totals.correct),
        ("found wrong", totals.checked - totals.correct),
        ("undecided", totals.undecided),
        ("not checked", max(0, facts.results - totals.checked - totals.undecided)),
    ]
    return table(("of the run", "number"), ((name, f"{count:,}") for name, count in rows))


def _source_rows(facts: CardFacts) -> list[tuple[str, int]]:
    """The problems of a trimmed run's source that are not in the run."""
    source = facts.report.source
    if source is None:
        return []
    of = f"in {code(source.run)}, not in this run"
    return [
        (f"failed {of}", source.failed),
        (f"unfinished {of}", source.unfinished),
        (f"not trimmed yet, {of}", source.missing),
    ]


def _statistics(facts: CardFacts) -> list[str]:
    totals = facts.totals
    rows = [
        ("mean score of the results", _number(totals.mean_score, 4)),
        ("mean steps of a result", _number(totals.mean_steps, 2)),
        ("share of right answers among the decided ones", _number(totals.accuracy, 4)),
        ("candidates proposed", f"{totals.proposed:,}"),
        ("tokens generated (steps and answers)", f"{totals.tokens:,}"),
        ("answers cut at their limit", f"{totals.cut_answers:,}"),
        ("thinking ended by a full context", f"{totals.full_contexts:,}"),
    ]
    teachers = (
        (
            code(one.name),
            f"{one.proposed:,}",
            f"{one.invalid:,}",
            f"{one.kept:,}",
            _number(one.share, 4),
            _number(one.mean_score, 4),
            f"{one.tokens:,}",
        )
        for one in totals.teachers
    )
    head = ("teacher", "proposed", "invalid", "kept", "share of the winning steps", "mean score", "tokens")
    note = "These are of the whole run, before the filters of this export."
    if facts.trimmed_from is not None:
        note += " Its candidates are copies of the winners' steps; the tokens are those of new final answers alone."
    return [
        note,
        "",
        *table(("", ""), rows),
        "",
        *table(head, teachers),
    ]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _export(facts: CardFacts) -> list[str]:
    report = facts.report
    left_out = [("results without a row (for all reasons)", report.left_out)] if report.left_out is not None else []
    rows = [
        (f"exported: {plural_of(report.noun)}", report.exported),
        *left_out,
        (UNFIT, report.unfit),
        ("neither right nor wrong, where the format needs one", report.undecided),
        ("longer than `--max-tokens`", report.too_long),
        ("problems whose question is in a benchmark", report.contaminated),
        (f"failed problems, {'with' if report.has_failed else 'without'} rows", report.failed),
        ("unfinished problems", report.unfinished),
    ]
    lines = table(("", "number"), ((name, f"{count:,}") for name, count in rows))
    longest = (
        [f"The longest text has {counted(report.longest, 'token')}, counted with the student's tokenizer.", ""]
        if report.longest
        else []
    )
    options = " ".join(facts.command)
    return [*lines, "", *longest, "Options of this export:", "", *code_block(options, "text")]


def _reproduction(facts: CardFacts) -> list[str]:
    run, source = facts.run, facts.trimmed_from or facts.run
    commands = [f"# cord-worker {shown(facts.code_version)}"]
    commands += [
        f"cordctl enqueue {one['id']}@{one['revision']} --split {one['split']} --config cord.toml --run {source}"
        for one in facts.datasets
    ] or [f"cordctl enqueue DATASET --config cord.toml --run {source}"]
    if facts.trim_above is not None:
        commands.append(f"cordctl trim {source} --above {facts.trim_above} --name {run}")
    if facts.rescoring is not None:
        commands.append(f"cordctl rescore {run} --prover MODEL --name {shlex.quote(facts.rescoring.name)}")
    commands.append(" ".join([f"cordctl export {run} -o {facts.output}", *facts.command]))
    unknown = [] if facts.datasets else ["DATASET is a file, which the run does not name. "]
    unknown += [] if facts.rescoring is None else ["MODEL is the prover of the rescoring, in a copy of cord.toml. "]
    return [
        f"{''.join(unknown)}cord.toml is the configuration below, with the paths of the models on your machine. Its "
        f"fingerprint ({code(facts.config_fingerprint)}) is the same if everything that decides the results is the "
        "same, paths of models included. Chat templates that print the date need `run.date` "
        f"= {facts.prompt_date} for the same prompts. The same run exports the same bytes.",
        "",
        *code_block("\n".join(commands), "sh"),
    ]


_MEANS = {
    "geometric_mean": "the exponential of the mean log-probability of its tokens",
    "mean_probability": "the mean of the probabilities of its tokens",
}


def _limits(facts: CardFacts) -> list[str]:
    lines = [
        "- Texts were written by models. A right final answer does not make every step right; nothing here is a proof.",
    ]
    if facts.config.is_scored:
        lines.append(
            "- A score is how probable the prover finds the known answer after a trajectory ("
            f"{_MEANS[facts.config.required_prover.score]}, in (0, 1]). It is not the probability that the reasoning "
            "is right, and it cannot be compared with scores of another prover or scoring mode."
        )
    lines += [
        f"- Answers were checked by {code(facts.config.verify.method)} against the dataset's known answers, which may "
        "be wrong themselves. Undecided answers are neither right nor wrong.",
        "- Unless `--decontaminate` is among the options above, questions were not compared with any benchmark; if it "
        "is, strong paraphrases are not found.",
        "- Unfinished problems are missing, and failed ones have no winner; those are rarely the easy ones."
        if facts.report.has_failed
        else "- Failed and unfinished problems are missing, and those are rarely the easy ones.",
    ]
    return lines
