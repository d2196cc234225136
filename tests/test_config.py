"""Configuration: every fault at once, with file, line and nearest valid name; variables only on string leaves."""

from pathlib import Path

import pytest

from shield.broker import EmbeddedConfig, KafkaConfig
from shield.config import Config, ConfigError, load, parse

GOOD = """\
broker: {use: embedded, path: data/shield.db}
sources:
  - {use: syslog, tenant: town-a, source: fw, parser: fortigate, timezone: Europe/Berlin, listen: ["tcp://127.0.0.1:5514"]}
  - {use: file, tenant: town-a, source: web, parser: nginx, path: /var/log/nginx/access.log}
sinks:
  - {use: ndjson, name: out}
alerts: {budget_per_day: 2}
"""


def faults(text: str, environment: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "shield.yml", environment=environment or {})
    return [str(f) for f in caught.value.faults]


def test_a_good_configuration_is_typed() -> None:
    config = parse(GOOD, "shield.yml", environment={})
    assert [s.source for s in config.sources] == ["fw", "web"]
    assert config.sinks[0].name == "out"
    assert config.alerts.budget_per_day == 2
    assert isinstance(config.broker, EmbeddedConfig)


def test_an_empty_file_is_the_default() -> None:
    assert parse("", "shield.yml", environment={}) == Config()


def test_kafka_is_one_line_away() -> None:
    broker = parse("broker: {use: kafka, bootstrap_servers: 'k:9092'}", "s.yml", environment={}).broker
    assert isinstance(broker, KafkaConfig)
    assert broker.bootstrap_servers == "k:9092"


def test_all_faults_come_at_once_with_line_and_nearest_name() -> None:
    found = faults(
        "broker: {use: embeded}\n"
        "sorces: []\n"
        "sources:\n"
        "  - {use: sylog, tenant: a, source: fw}\n"
        "  - {use: file, tenant: a, source: fw2, parser: fortigat, path: /x, timezone: Europe/Berlinn}\n"
        "  - {use: file, tenant: a}\n"
        "sinks:\n"
        "  - {use: ndjson, name: out, min_severty: high}\n"
    )
    text = "\n".join(found)
    assert "shield.yml:1: unknown broker `embeded`" in text
    assert "shield.yml:2: unknown key `sorces` in the configuration, did you mean `sources`?" in text
    assert "shield.yml:4: unknown `use: sylog`, did you mean `syslog`?" in text
    assert "shield.yml:6:" in text
    assert "lacks `path`" in text
    assert "lacks `source`" in text
    assert "did you mean `min_severity`?" in text
    assert len(found) >= 6


def test_meaning_is_checked_when_the_shape_is_right() -> None:
    text = "\n".join(
        faults(
            "sources:\n"
            "  - {use: file, tenant: a, source: fw, parser: fortigat, path: /x}\n"
            "  - {use: file, tenant: a, source: fw, path: /y, timezone: Europe/Berlinn}\n"
            "rules: [/nowhere/rules]\n"
            "learn_until: yesterday\n"
        )
    )
    assert "shield.yml:2:" in text
    assert "fortigate" in text
    assert "source `fw` of tenant `a` stands twice" in text
    assert "unknown time zone `Europe/Berlinn`" in text
    assert "there is no /nowhere/rules" in text
    assert "no ISO 8601 time" in text


def test_duplicate_keys_and_broken_yaml_name_their_line() -> None:
    assert faults("language: de\nlanguage: en\n") == ["shield.yml:2: `language` stands twice here"]
    assert faults("a: [1\nb: 2\n")[0].startswith("shield.yml:2: not valid YAML")


def test_variables_are_filled_in_after_parsing_and_never_change_the_structure() -> None:
    hostile = {"NAME": "x, use: webhook}\nsinks: []"}
    config = parse("sinks:\n  - {use: ndjson, name: '${NAME2:-out}', path: '${NAME}'}\n", "s.yml", environment=hostile)
    assert config.sinks[0].name == "out"
    assert hostile["NAME"] in str(getattr(config.sinks[0], "path", ""))
    assert "the environment has no variable MISSING" in faults("language: ${MISSING}\n")[0]


def test_relative_paths_are_read_from_the_files_folder(tmp_path: Path) -> None:
    (tmp_path / "shield.yml").write_text("broker: {use: embedded, path: data/s.db}\n", encoding="utf-8")
    broker = load(tmp_path / "shield.yml").broker
    assert isinstance(broker, EmbeddedConfig)
    assert str(broker.path) == str(tmp_path / "data" / "s.db")


def test_types_are_checked_with_their_place() -> None:
    assert faults("alerts:\n  budget_per_day: many\n")[0].startswith("shield.yml:2: alerts.budget_per_day:")
