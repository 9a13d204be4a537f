"""Writes the card of an exported dataset, and pushes files and card to the hub (`cordctl export --card`, `--push`)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from cord_worker.dataset.hub_access import hub_library, is_hub_id
from cord_worker.export.card import CARD_NAME, CardFacts, CardRescoring, card_text, is_unchanged_card
from cord_worker.export.exporting import Request, scope_of
from cord_worker.export.files import STANDARD_OUTPUT, ExportError, check_writable, replaced_file
from cord_worker.export.format import OptionError
from cord_worker.export.licenses import HUB_LICENSES
from cord_worker.export.public_names import public_name
from cord_worker.export.report import ExportReport, read_exported_run
from cord_worker.name_suggestions import did_you_mean
from cord_worker.operations.hub_push import Pushed, PushTarget, push
from cord_worker.store.audit.digest_invariants import run_digest
from cord_worker.store.reports.status import read_totals
from cord_worker.store.runs.rescorings import find_rescoring, prover_of, rescoring_counts
from cord_worker.store.runs.runs import RunRow

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=+-]*")
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")
_COMMIT = re.compile(r"[0-9a-f]{40,64}")
_NOT_IN_CARDS = frozenset(
    {"output", "trim", "card", "license", "push", "private", "revision", "commit_message", "replace_card"}
)
"""Options of `cordctl export` that do not decide the rows."""
_PATH_OPTIONS = frozenset({"student", "decontaminate"})
"""Options whose values may be paths of this machine."""
_FORMAT = "form"
"""The name of the option `--format` in `ExportOptions`."""


@dataclass(frozen=True, slots=True)
class Publication:
    """What is published besides the rows. `license` is the hub's name of the licence; `target` is the dataset to push
    to, if any; `replaces_card`: replace a README.md even if it was written or changed by hand."""

    license: str | None = None
    target: PushTarget | None = None
    replaces_card: bool = False

    @classmethod
    def of_options(cls, options: Mapping[str, Any]) -> Publication | None:
        """The publication that the options of `cordctl export` describe; None without `--card` and `--push`.

        Raises OptionError.
        """
        repository, license_name = options["push"], options["license"]
        if repository is None:
            for name in ("private", "revision", "commit_message"):
                if options[name] is not None:
                    flag = "--private and --public go" if name == "private" else f"--{name.replace('_', '-')} goes"
                    raise OptionError(f"{flag} with --push ORG/NAME")
            if not options["card"]:
                for name in ("license", "replace_card"):
                    if options[name]:
                        raise OptionError(f"--{name.replace('_', '-')} goes with --card or --push ORG/NAME")
                return None
        elif not is_hub_id(repository):
            raise OptionError(f"--push {repository!r}: write the dataset's id at the hub, ORG/NAME")
        elif license_name is None:
            raise OptionError(
                "--push needs --license NAME, such as cc-by-4.0: nobody may use a dataset without a licence. "
                "--license other is for one that the hub does not list."
            )
        if license_name is not None and not _LICENSE.fullmatch(license_name.lower()):
            raise OptionError(f"--license {license_name!r}: write its short name, such as apache-2.0, mit or cc-by-4.0")
        if license_name is not None and repository is None and license_name.lower() not in HUB_LICENSES:
            near = did_you_mean(license_name, HUB_LICENSES)
            raise OptionError(
                f"--license {license_name!r}: the hub has no licence of this name{':' if near else '.'}{near} "
                "--license other is for one that the hub does not list."
            )
        target = None
        if repository is not None:
            target = PushTarget(
                repository,
                private=options["private"],
                branch=options["revision"],
                message=options["commit_message"],
            )
        return cls(None if license_name is None else license_name.lower(), target, bool(options["replace_card"]))


@dataclass(frozen=True, slots=True)
class Published:
    """The card that was written, and the push, if one was requested."""

    card: Path
    pushed: Pushed | None

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return {"card": str(self.card), "pushed": None if self.pushed is None else self.pushed.to_json()}

    def sentence(self) -> str:
        """For people."""
        return f"card: {self.card}" + ("" if self.pushed is None else f"; {self.pushed.sentence()}")


def check_publication(publication: Publication, outputs: Sequence[str]) -> None:
    """Raises OptionError or ExportError if no card can be written for these files, and HubError if a push is requested
    but the hub's package cannot be used. To be called before any work."""
    for output in outputs:
        if output == STANDARD_OUTPUT or (Path(output).exists() and not Path(output).is_file()):
            raise OptionError(f"a card describes files, and {output} is none: name a file with -o")
        if not _FILE_NAME.fullmatch(Path(output).name):
            raise ExportError(
                f"{output}: a card lists files by patterns, so use only letters, digits, '.', '_', '-', '+' and '=' in "
                "its name."
            )
    card = _card_beside(outputs)
    check_writable(str(card))
    present = None if publication.replaces_card else _present_card(card)
    if present is not None and not is_unchanged_card(present):
        raise ExportError(
            f"{card} was written or changed by hand, and the card would replace it: write the export to another "
            "folder, move the file, or give --replace-card."
        )
    if publication.target is not None:
        hub_library("--push")


def publish(publication: Publication, outputs: Sequence[str], facts: CardFacts) -> Published:
    """Writes the card beside the exported files, and pushes both if there is a target.

    Raises ExportError, and HubError if the push failed; the files stay on this machine.
    """
    card = _card_beside(outputs)
    with replaced_file(str(card)) as file:
        file.write(card_text(facts).encode("utf-8", "backslashreplace"))
    if publication.target is None:
        return Published(card, None)
    files = {Path(output).name: Path(output) for output in outputs}
    pushed = push(publication.target, files, card, facts.run, replaces_card=publication.replaces_card)
    return Published(card, pushed)


def _card_beside(outputs: Sequence[str]) -> Path:
    return Path(outputs[0]).parent / CARD_NAME


def _present_card(card: Path) -> str | None:
    try:
        return card.read_text("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(
            f"{card} cannot be read ({error}): move it, or write the export to another folder."
        ) from error


def card_facts(
    connection: sa.Connection,
    publication: Publication,
    request: Request,
    outputs: Sequence[str],
    report: ExportReport,
    options: Mapping[str, Any],
) -> CardFacts:
    """The facts for the card of an export, read in the transaction in which the export read its rows. `options` are
    those of `ExportOptions.by_name`, and `output`."""
    found = read_exported_run(connection, report.run)
    splits = ("train",) if request.splits is None else request.splits.names
    provenance = found.provenance
    return CardFacts(
        run=found.run.name,
        config=found.config,
        config_fingerprint=provenance.config_fingerprint,
        run_digest=run_digest(connection, found.run.id),
        prompt_date=found.run.prompt_date.isoformat(),
        scoring_mode=provenance.scoring_mode,
        code_version=provenance.code_version,
        counts=found.counts,
        totals=read_totals(connection, found.run.id),
        results=found.results,
        datasets=_datasets(provenance.datasets),
        format=request.format,
        fields=request.format.fields(scope_of(connection, found, request)),
        report=report,
        output=Path(options["output"]).name,
        files={Path(output).name: (split, report.files[output]) for output, split in zip(outputs, splits, strict=True)},
        command=_command(options),
        license=publication.license,
        repository=None if publication.target is None else publication.target.repository,
        trimmed_from=found.run.trimmed_from,
        trim_above=found.run.trim_above,
        rescoring=_rescoring(connection, found.run, options["rescoring"]),
    )


def _rescoring(connection: sa.Connection, run: RunRow, name: str | None) -> CardRescoring | None:
    if name is None:
        return None
    found = find_rescoring(connection, run, name)
    counts = rescoring_counts(connection, found.id)
    return CardRescoring(
        found.name,
        _name_of(found.path),
        found.scoring_mode,
        found.system_prompt,
        prover_of(found.prover),
        counts.scored,
        counts.invalid,
    )


def _name_of(given: str) -> str:
    """The given path or hub id without the folders of this machine. `a/b` may be either."""
    path = Path(given)
    return path.resolve().name if path.exists() else public_name(given)


def _datasets(stored: Any) -> list[dict[str, str]]:
    """The stored datasets that have the usual form. Others are left out: a row edited by hand may hold anything."""
    return [
        {"id": one["id"], "revision": one["revision"], "split": shlex.quote(str(one.get("split", "")))}
        for one in (stored if isinstance(stored, list) else [])
        if isinstance(one, dict)
        and is_hub_id(str(one.get("id", "")))
        and _COMMIT.fullmatch(str(one.get("revision", "")))
    ]


def _command(options: Mapping[str, Any]) -> list[str]:
    """The options that decide the rows, as they are written in a command, but with only the last part of each path."""
    words = []
    for name, value in options.items():
        if name in _NOT_IN_CARDS or value is None or value is False or value == ():
            continue
        flag = "--format" if name == _FORMAT else f"--{name.replace('_', '-')}"
        for one in value if isinstance(value, tuple) else (value,):
            written = _name_of(str(one)) if name in _PATH_OPTIONS else str(one)
            words.append(flag if value is True else f"{flag} {shlex.quote(written)}")
    return words
