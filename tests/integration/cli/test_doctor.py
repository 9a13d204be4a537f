"""`cordctl doctor` lists what it finds and says what to do about what is missing."""

from __future__ import annotations

import json

from tests.support.cordctl_process import Cordctl


def findings(cordctl: Cordctl, exits: int = 0) -> dict[str, dict[str, str]]:
    return {row["subject"]: row for row in json.loads(cordctl("doctor", "--json", exits=exits).stdout)["findings"]}


def test_a_machine_in_order_passes(cordctl: Cordctl) -> None:
    found = findings(cordctl)
    assert found["database"]["level"] == "ok"
    assert found["broker"]["level"] == "ok"
    assert found["configuration"]["level"] == "ok"
    assert found["python"]["level"] == "ok"


def test_a_failed_check_is_named_with_a_remedy(cordctl: Cordctl) -> None:
    config = cordctl.folder / "cord.toml"
    text = config.read_text(encoding="utf-8").replace('path = "judge"\nengine = "instant"', 'path = "./nowhere"')
    config.write_text(text, encoding="utf-8")
    cordctl.environment["CORD_DATABASE_URL"] = "postgresql://nobody:s3cret@127.0.0.1:1/none"
    cordctl.environment["CORD_BROKER_URL"] = "redis://:s3cret@127.0.0.1:1/0"
    found = findings(cordctl, exits=4)
    for subject in ("database", "broker", "model judge"):
        assert found[subject]["level"] == "fail"
        assert found[subject]["advice"]
    assert "s3cret" not in json.dumps(found)
