"""The tokenizer of a model that a server hosts: which files are fetched and which ones its digest covers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from cord_worker.engines.tokenizer import load_server_tokenizer
from cord_worker.errors import EngineLoadError
from tests.support.settings import engine_settings


@pytest.fixture
def fetched_patterns(
    tmp_path: Path, fast_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Patterns of the files that are fetched from the hub, which puts them into `tmp_path`."""
    patterns: list[str] = []

    def fetch(_: str, *, allow_patterns: list[str], **__: Any) -> str:
        patterns.extend(allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *_, **__: fast_tokenizer)
    return patterns


def test_a_gguf_file_of_the_hub_is_fetched_and_belongs_to_the_digest(
    tmp_path: Path, fetched_patterns: list[str]
) -> None:
    settings = engine_settings("owner/name", gguf_file="model.gguf")
    digests = set()
    for content in (b"one", b"two"):
        (tmp_path / "model.gguf").write_bytes(content)
        found = load_server_tokenizer(settings)
        assert found is not None
        digests.add(found.digest)
    assert "model.gguf" in fetched_patterns
    assert len(digests) == 2


@pytest.mark.usefixtures("fetched_patterns")
def test_a_gguf_file_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    for path in ("owner/name", str(tmp_path)):
        with pytest.raises(EngineLoadError, match=r"no file 'model\.gguf' in .*; correct gguf_file"):
            load_server_tokenizer(engine_settings(path, gguf_file="model.gguf"))


@pytest.mark.usefixtures("fetched_patterns")
def test_without_a_tokenizer_at_the_hub_there_is_none() -> None:
    assert load_server_tokenizer(engine_settings("owner/name")) is None


def test_a_folder_called_like_a_tokenizer_is_no_file_of_it(tokenizer_folder: Path, tmp_path: Path) -> None:
    for file in tokenizer_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "tokenizer").mkdir()
    found, plain = (
        load_server_tokenizer(engine_settings(tmp_path)),
        load_server_tokenizer(engine_settings(tokenizer_folder)),
    )
    assert found is not None
    assert plain is not None
    assert found.digest == plain.digest
