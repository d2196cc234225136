"""Promises as tests: import layers, golden samples, pages that are not stale, and nothing in the tree that must not be."""

import importlib
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml
from typer.models import CommandInfo

from connectors.parse import parser_names
from shield import config as configs
from shield import docs_page
from shield.cli import app
from shield.metrics import Metrics

ROOT = Path(__file__).parent.parent
PACKAGES = ("shield", "detectors", "connectors")
UNWANTED = {
    "a path of one machine": re.compile(r"(?<![\w.])/(?:work|root)/|/home/(?!anna|user|app)\w+/"),
    "a package index": re.compile(r"\b(?:artifactory|nexus)\.|index-url\s*=|pypi\.(?!org)[\w.]+/simple", re.IGNORECASE),
    "unfinished work": re.compile(r"\b(?:TODO|FIXME|XXX)\b"),
}
NAMES_UNWANTED = re.compile(r"^(?:utils?|helpers?|manager|base_.*|common|misc)$")


@cache
def tracked() -> list[Path]:
    git = shutil.which("git")
    assert git, "git is needed to know which files belong to the tree"
    command = [git, "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def commands() -> set[str]:
    found = {_name(command) for command in app.registered_commands}
    for group in app.registered_groups:
        assert group.typer_instance
        found |= {f"{group.name} {_name(command)}" for command in group.typer_instance.registered_commands}
    return found


def _name(command: CommandInfo) -> str:
    return str(command.name or getattr(command.callback, "__name__", ""))


def test_imports_point_one_way() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", parser_names())
def test_every_parser_has_a_golden_sample(name: str) -> None:
    for part in ("sample.log", "events.json"):
        assert (ROOT / "tests" / "golden" / name / part).stat().st_size > 0


@pytest.mark.parametrize("page", ["configuration", "parsers"])
def test_generated_pages_are_not_stale(page: str) -> None:
    expected = docs_page.configuration() if page == "configuration" else docs_page.parsers(ROOT / "tests" / "golden")
    assert (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8") == expected, "run `make docs`"


def test_every_module_that_use_accepts_is_documented() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for package in ("connectors", "shield.sinks"):
        names = docs_page.names(package)
        assert names
        for name in names:
            assert f"### use: {name}\n" in page
            assert configs.component(package, name).Config


def test_every_option_of_the_example_exists_and_every_top_level_key_is_explained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SHIELD_HTTP_TOKEN", "a-token-of-the-test")
    text = (ROOT / "shield.example.yml").read_text(encoding="utf-8")
    loaded = configs.parse(text, "shield.example.yml", base=ROOT)
    assert loaded.sources
    assert loaded.sinks
    uncommented = re.sub(r"(?m)^#\s*(?=(?:- \{use|broker:|rules:|profiles:))", "", text)
    used = set(re.findall(r"\buse: (\w+)", uncommented))
    assert used == {"embedded", "kafka", *docs_page.names("connectors"), *docs_page.names("shield.sinks")}
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for key in yaml.safe_load(text):
        assert f"## {key}\n" in page or f"| `{key}` |" in page


def test_the_readmes_commands_exist() -> None:
    known = commands()
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    used = set(re.findall(r"(?m)(?:^|`)shield (rules [a-z]+|[a-z][a-z-]*)", text))
    assert used
    assert used <= known, used - known
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
    assert set(re.findall(r"(?m)(?:^|`)make ([a-z-]+)", text)) <= targets


def test_the_readmes_options_exist() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "shield").glob("cli*.py")))
    for line in re.findall(r"(?m)(?:^|`)shield [^\n`]*", (ROOT / "README.md").read_text(encoding="utf-8")):
        for option in re.findall(r"\s--([a-z-]+)", line.split("#")[0]):
            assert f'"--{option}"' in code or re.search(rf"\b{option.replace('-', '_')}: ", code), (
                f"{option} in: {line}"
            )


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_nothing_unwanted_is_in_the_tree() -> None:
    found = []
    for path in tracked():
        if path.suffix in {".lock", ".png", ".gz"} or "LICENSES" in path.parts or path == Path(__file__):
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        for what, pattern in UNWANTED.items():
            found += [f"{path.relative_to(ROOT)}: {what}: {m[0]!r}" for m in pattern.finditer(text)]
    assert not found, "\n".join(found)


def test_metrics_have_our_prefix() -> None:
    others = ("process_",)  # what every process has
    names = [family.name for family in Metrics().registry.collect() if not family.name.startswith(others)]
    assert names
    assert all(re.fullmatch(r"shield_[a-z0-9_]+", name) for name in names), names


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert path.read_text(encoding="utf-8").removeprefix("r").startswith('"""'), f"{path.name} has no docstring"


def test_modules_are_named_after_what_they_hold() -> None:
    named = [path for path in tracked() if path.suffix == ".py" and NAMES_UNWANTED.match(path.stem)]
    assert not named


def test_generated_words_come_from_the_code() -> None:
    page = docs_page.configuration()
    assert "| `silent_after_s` | number | `30.0` |" in page
    assert importlib.import_module("connectors.http").__doc__.splitlines()[0] in page  # type: ignore[union-attr]
