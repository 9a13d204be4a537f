"""Pushes exported files to a dataset of the Hugging Face hub, in one commit: a reader sees all of them or none."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from cord_worker.dataset.hub_access import explanation, hub_errors, hub_library, hub_name, is_passing, response_of
from cord_worker.display_text import counted
from cord_worker.errors import HubError
from cord_worker.export.card import CARD_NAME, is_unchanged_card

_log = logging.getLogger(__name__)

_WAITS_SECONDS = (1.0, 4.0, 10.0)
"""Waits before further attempts, unless the hub asks for another wait. The library repeats most requests itself."""
_LONGEST_WAIT_SECONDS = 60.0
_MOST_NAMED = 5
_NOT_DATA = frozenset({CARD_NAME, ".gitattributes", ".gitignore", "LICENSE", "LICENSE.md", "LICENSE.txt"})


@dataclass(frozen=True, slots=True)
class PushTarget:
    """The dataset `repository` to push to. If it does not exist, it is made: public if `private` is False, else
    private. `branch`: None for the main branch; `message`: the commit message, None for a default one."""

    repository: str
    private: bool | None = None
    branch: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Pushed:
    """The commit that holds the files. `has_changed` is False if the repository had the same files already. `others`
    are files of the repository that the card does not name."""

    repository: str
    branch: str
    commit: str
    url: str
    is_private: bool
    has_changed: bool
    others: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return {
            "repository": self.repository,
            "branch": self.branch,
            "commit": self.commit,
            "url": self.url,
            "private": self.is_private,
            "changed": self.has_changed,
            "others": list(self.others),
        }

    def sentence(self) -> str:
        """For people."""
        what = f"pushed to {self.url}" if self.has_changed else f"{self.url} has the same files already"
        named = ", ".join(self.others[:_MOST_NAMED]) + (", …" if len(self.others) > _MOST_NAMED else "")
        others = f"; the card does not name {counted(len(self.others), 'other file')} there ({named})"
        seen = "private" if self.is_private else "public"
        return f"{what} ({seen}, commit {self.commit}){others if self.others else ''}"


class _Refused(Exception):
    """The push would overwrite or leave out something, as the message says."""


def push(target: PushTarget, files: Mapping[str, Path], card: Path, run: str, *, replaces_card: bool = False) -> Pushed:
    """Pushes the files (by their names in the repository) and the card; makes the repository and the branch if needed.

    The commit names its parent, so that a commit of somebody else is never undone. After a temporary failure, it is
    tried again a few times; a commit whose reply was lost is found and not made again. The files here stay.

    Raises:
        HubError: the hub cannot be used or refuses, or its card was written or changed by hand (unless
            `replaces_card`).
    """
    hub = hub_library("--push")
    advice = f"The files are complete in {card.parent}; once this is solved, give the same command again."
    seen_commits: list[str] = []
    try:
        return _with_retries(
            hub, lambda: _push_once(hub, target, files, card, run, seen_commits, replaces_card=replaces_card)
        )
    except _Refused as refused:
        raise HubError(f"{refused} Nothing was pushed. {advice}") from None
    except hub_errors(hub) as error:
        cause = explanation(hub, error, target.repository).rstrip(".")
        # Without a reply, the commit may have been made.
        outcome = "the hub has not confirmed the push" if response_of(error) is None else "nothing was pushed"
        raise HubError(f"{outcome}: {cause}. {advice}") from error


def _with_retries(hub: ModuleType, attempt: Callable[[], Pushed]) -> Pushed:
    for wait in _WAITS_SECONDS:
        try:
            return attempt()
        except hub_errors(hub) as error:
            if not is_passing(hub, error):
                raise
            seconds = _wait_of(error, wait)
            _log.warning("the hub does not answer (%s); trying again in %.0f s", type(error).__name__, seconds)
            time.sleep(seconds)
    return attempt()


def _wait_of(error: BaseException, wait: float) -> float:
    """The seconds that the hub asks to wait (a minute at most), else `wait`."""
    response = response_of(error)
    asked = None if response is None else response.headers.get("Retry-After")
    return min(float(asked), _LONGEST_WAIT_SECONDS) if asked is not None and str(asked).isdigit() else wait


def _push_once(
    hub: ModuleType,
    target: PushTarget,
    files: Mapping[str, Path],
    card: Path,
    run: str,
    seen_commits: list[str],
    *,
    replaces_card: bool,
) -> Pushed:
    """Makes one attempt to push, and appends the branch's newest commit to `seen_commits`.

    The first of `seen_commits` is the state before all attempts: an earlier attempt may have made a commit whose reply
    was lost.
    """
    api, repository = hub.HfApi(), target.repository
    # An existing repository stays private or public as it is.
    api.create_repo(repository, repo_type="dataset", private=target.private is not False, exist_ok=True)
    branch = target.branch or "main"
    try:
        info = api.dataset_info(repository, revision=branch)
    except hub.errors.RevisionNotFoundError:
        _check_visibility(target, api.dataset_info(repository))
        api.create_branch(repository, branch=branch, repo_type="dataset", exist_ok=True)
        info = api.dataset_info(repository, revision=branch)
    _check_visibility(target, info)
    parent = str(info.sha)
    seen_commits.append(parent)
    present = [one.path for one in api.list_repo_tree(repository, recursive=True, revision=parent, repo_type="dataset")
               if hasattr(one, "size")]  # fmt: skip
    if CARD_NAME in present and not replaces_card:
        _check_card(hub, repository, parent, branch)
    paths = {**files, CARD_NAME: card}
    operations = [hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=path) for name, path in paths.items()]
    if ".gitignore" in present:
        _check_not_ignored(api, repository, branch, operations)
    with _quiet(logging.getLogger("huggingface_hub")):
        commit = api.create_commit(
            repository,
            operations,
            commit_message=target.message or f"Export of the run {run}",
            repo_type="dataset",
            revision=branch,
            parent_commit=parent,
        )
    _check_arrived(api, repository, str(commit.oid), paths)
    return Pushed(
        repository,
        branch,
        str(commit.oid),
        f"{_without_user(str(hub.constants.ENDPOINT))}/datasets/{repository}",
        is_private=bool(info.private),
        has_changed=str(commit.oid) != seen_commits[0],
        others=tuple(name for name in present if name not in paths and name not in _NOT_DATA),
    )


@contextmanager
def _quiet(log: logging.Logger) -> Iterator[None]:
    """Drops the warnings of `log` for the length of a `with`: `Pushed.sentence` says that no file has changed."""
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _check_visibility(target: PushTarget, info: Any) -> None:
    """Raises _Refused if the dataset at the hub is public and should be private, or the other way round."""
    if target.private and info.private is False:
        raise _Refused(
            f"{target.repository} is public, and --private was given: make it private on its page, or push elsewhere."
        )
    if target.private is False and info.private:
        raise _Refused(
            f"{target.repository} is private, and --public was given: make it public on its page, or leave --public "
            "out."
        )


def _check_card(hub: ModuleType, repository: str, commit: str, branch: str) -> None:
    """Raises _Refused if the card at the hub was written or changed by hand."""
    there = Path(hub.hf_hub_download(repository, CARD_NAME, repo_type="dataset", revision=commit))
    if not is_unchanged_card(there.read_text("utf-8", "replace")):
        raise _Refused(
            f"{hub_name(hub)} has a {CARD_NAME} in {repository} (branch {branch}) that was written or changed by hand, "
            "and the card would replace it: push to another dataset or branch (--revision), or give --replace-card."
        )


def _without_user(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _check_not_ignored(api: Any, repository: str, branch: str, operations: list[Any]) -> None:
    """Raises _Refused if a .gitignore of the repository covers a file: the hub would silently leave it out."""
    api.preupload_lfs_files(repository, operations, repo_type="dataset", revision=branch, free_memory=False)
    ignored = [one.path_in_repo for one in operations if getattr(one, "_should_ignore", False)]
    if ignored:
        raise _Refused(
            f"the .gitignore of {repository} leaves out {', '.join(ignored)}: change it there, or give the file "
            "another name."
        )


def _check_arrived(api: Any, repository: str, commit: str, paths: Mapping[str, Path]) -> None:
    """Raises HubError if the commit lacks one of the files, or has it in another size."""
    found = api.get_paths_info(repository, list(paths), revision=commit, repo_type="dataset")
    sizes = {one.path: one.size for one in found if hasattr(one, "size")}
    missing = sorted(name for name, path in paths.items() if sizes.get(name) != path.stat().st_size)
    if missing:
        raise HubError(
            f"the commit {commit} of {repository} does not hold {', '.join(missing)} as on this machine: look at it "
            "there, remove it, and push again."
        )
