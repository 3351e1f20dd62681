"""The file of alert rules: what it may hold, what is said of a wrong one, and that a changed one counts."""

from __future__ import annotations

import logging
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.alert_rules import RulesFile, read_rules
from pipeline.errors import InvalidParameter

RULE = {"name": "errors", "metric": "error_rate", "above": 0.05, "by": "endpoint"}
SECRET = "https://hooks.example.com/T0/hidden-path"


def written(tmp_path: Path, document: Any) -> Path:
    file = tmp_path / "alerts.yaml"
    file.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return file


def test_a_file_with_everything(tmp_path: Path) -> None:
    text = """
alerts:
  - {name: too many errors, metric: error_rate, above: 0.05, by: endpoint}
  - {name: slow, metric: p95_latency_ms, above: 4000, by: endpoint, only: demo, min_requests: 5}
  - {name: much text, metric: tokens, above: 2000000, by: "tag:team"}
  - {name: dear, metric: cost, above: "25.10", by: tag:cost center}
webhook:
  url: "{{secrets/alerts/url}}"
  headers: {authorization: "Bearer {{secrets/alerts/token}}", x-from: sluice}
"""
    found = read_rules(written(tmp_path, text))
    assert [(r.name, r.metric, r.above, r.by, r.only, r.least) for r in found.rules] == [
        ("too many errors", "error_rate", Decimal("0.05"), "endpoint", None, 20),
        ("slow", "p95_latency_ms", Decimal(4000), "endpoint", "demo", 5),
        ("much text", "tokens", Decimal(2_000_000), "tag:team", None, 1),
        ("dear", "cost", Decimal("25.10"), "tag:cost center", None, 1),
    ]
    assert found.webhook is not None and found.webhook.headers["x-from"] == "sluice"
    assert read_rules(written(tmp_path, "alerts: []")).webhook is None


def test_the_file_in_the_document_is_one(tmp_path: Path) -> None:
    document = Path(__file__).parents[2] / "docs" / "alerts.md"
    (example,) = re.findall(r"```yaml\n(.*?)```", document.read_text(), re.DOTALL)
    assert len(read_rules(written(tmp_path, example)).rules) == 4


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"abov": 1}, r"rule 1 \(errors\): abov: is not supported here and would be ignored; remove it"),
        ({"metric": "latency"}, r"rule 1 \(errors\): metric: .*'p95_latency_ms'.*got 'latency'"),
        ({"above": "much"}, r"rule 1 \(errors\): above: is no number"),
        ({"above": True}, r"above: is no number"),
        ({"above": float("nan")}, r"above: "),
        ({"above": -1}, r"above: .*greater than or equal to 0"),
        ({"above": 5}, r"rule 1 \(errors\): .*error_rate is a share, so that 0.05 stands for 5 in 100"),
        ({"by": "team"}, r"by: write endpoint, or tag:NAME as in tag:team"),
        ({"by": "endpoints"}, r"by: write endpoint"),
        ({"by": "tag:"}, r"by: write endpoint"),
        ({"only": ""}, r"only: "),
        ({"min_requests": 0}, r"min_requests: "),
        ({"min_requests": 2.0}, r"min_requests: "),
        ({"metric": "tokens", "min_requests": 5}, r"min_requests is for error_rate and p95_latency_ms, and would be ignored for tokens"),
        ({"name": ""}, r"rule 1: name: "),
    ],
)
def test_a_wrong_rule_is_refused_with_file_rule_and_remedy(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    file = written(tmp_path, {"alerts": [{**RULE, **changes}]})
    with pytest.raises(InvalidParameter, match=f"{file}.*{said}"):
        read_rules(file)


@pytest.mark.parametrize(
    "document, said",
    [
        ("", "no list of rules under `alerts:`"),
        ("alerts: {name: x}", "no list of rules"),
        ("alerts: [\n", r"is not YAML \(line 2\)"),
        ("alerts: []\nwebhook: {url: {{secrets/a/b}}}", "in quotes"),
        ("alerts: []\nwebhooks: {}", "webhooks is not supported here"),
        ({"alerts": [RULE, RULE]}, "2 rules with the name errors"),
        ({"alerts": ["errors"]}, "rule 1: "),
        ({"alerts": [], "webhook": {}}, "webhook: url: Field required"),
    ],
)
def test_a_wrong_file_is_refused_with_its_remedy(tmp_path: Path, document: Any, said: str) -> None:
    file = written(tmp_path, document)
    with pytest.raises(InvalidParameter, match=f"{file}.*{said}"):
        read_rules(file)


@pytest.mark.parametrize(
    "webhook, said",
    [
        ({"url": SECRET.removeprefix("https:")}, "url: is no address; it looks like"),
        ({"url": "ftp" + SECRET}, "url: is no address"),
        ({"url": "http://127.0.0.1:hidden-path"}, "url: is no address"),
        ({"url": SECRET + "/{{secret/a/b}}"}, "url: has {{...}} that is no reference"),
        ({"url": SECRET, "headers": {"authorization": "Bearer {{secrets/../token}}"}}, "headers: has {{...}} that is no reference"),
        ({"url": SECRET, "headers": {"x y": "hidden-path"}}, "a header's name"),
        ({"url": SECRET, "headers": {"x": "hidden-path\r\ny: z"}}, "the value of header x"),
        ({"url": SECRET, "headers": {"x": {"hidden-path": 1}}}, "headers.x: "),
        ({"url": SECRET, "timeout": "hidden-path"}, "timeout: "),
    ],
)
def test_a_wrong_webhook_is_refused_and_nothing_of_it_is_repeated(tmp_path: Path, webhook: dict[str, Any], said: str) -> None:
    file = written(tmp_path, {"alerts": [], "webhook": webhook})
    with pytest.raises(InvalidParameter) as raised:
        read_rules(file)
    assert said in raised.value.message and str(file) in raised.value.message
    assert "hidden-path" not in raised.value.message


def test_a_changed_file_counts_and_a_wrong_one_is_told_once_while_the_last_good_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "jobs")
    file = RulesFile(tmp_path / "alerts.yaml")

    def errors() -> list[str]:
        return [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]

    assert file.rules().rules == () == file.rules().rules
    assert len(errors()) == 1 and "can't be read" in errors()[0] and "SLUICE_ALERTS" in errors()[0]
    written(tmp_path, {"alerts": [RULE]})
    good = file.rules()
    assert [r.name for r in good.rules] == ["errors"]
    written(tmp_path, {"alerts": [{**RULE, "by": "nothing"}]})
    assert file.rules() is good is file.rules()
    assert file.problem is not None and file.problem in errors()[-1]
    assert len(errors()) == 2 and "rule 1 (errors): by: write endpoint" in errors()[1] and "1 alert rules of before stay" in errors()[1]
    file.path.unlink()
    assert file.rules() is good is file.rules() and len(errors()) == 3
    written(tmp_path, {"alerts": [{**RULE, "above": "0.5"}]})
    assert file.rules().rules[0].above == Decimal("0.5") and len(errors()) == 3 and file.problem is None
