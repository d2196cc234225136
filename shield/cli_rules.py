"""`shield rules`: commands that read rules, try them on events and say what they are worth; none of them changes anything."""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import msgspec
import typer

from shield.terminal import EXAMPLE, FINDINGS, OK, USAGE, AsJson, fail, progress, say, table

if TYPE_CHECKING:
    from collections import Counter

    from connectors.events import Event
    from detectors.sigma import Rule, RuleSet
    from detectors.sigma.explanation import Clause, Explanation
    from shield.config import Config

STATS_LINES_MAX = 100_000  # measured unless told otherwise
VALUE_CHARS_SHOWN = 300  # of a value; JSON has more
CLAUSES_SHOWN = 8  # of a list of alternatives that do not hold
CACHED_FILES_MIN = 200  # rule files from which on what they say is kept for the next call

rules_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Work on rules.")

Paths = Annotated[list[Path], typer.Argument(help="Rule files or folders.", metavar="PATH...")]
CacheFolder = Annotated[
    Path | None,
    typer.Option(
        envvar="SHIELD_RULES_CACHE",
        help="Where large rule sets are kept as they were understood, so that the next call is quick. Default: the user's cache folder.",
    ),
]
Placeholders = Annotated[
    list[str] | None,
    typer.Option(
        help="NAME=VALUE for rules with %NAME% under the modifier `expand`; repeatable.", metavar="NAME=VALUE"
    ),
]
_encode = msgspec.json.Encoder().encode


def loaded(
    paths: list[Path],
    cache: Path | None = None,
    placeholders: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
) -> "RuleSet":
    """The good rules of files and folders, and all faults; what is not there is an error of use."""
    from detectors.sigma import RuleSet
    from detectors.sigma.documents import files

    missing = [path for path in paths if not path.exists()]
    if missing:
        fail(f"{missing[0]}: no such file or folder", USAGE)
    folder = None
    home = cache or _cache_home()
    if home is not None and len(files(paths)) >= CACHED_FILES_MIN:
        name = hashlib.sha256("\n".join(str(path.resolve()) for path in paths).encode()).hexdigest()[:16]
        folder = home / f"rules-{name}"
    return RuleSet.load(
        paths,
        strict=False,
        cache=folder,
        expansions=placeholders if isinstance(placeholders, Mapping) else expansions_of(placeholders),
    )


def _cache_home() -> Path | None:
    """The user's cache folder; None for a user without a home."""
    stated, home = os.environ.get("XDG_CACHE_HOME"), os.environ.get("HOME")
    if stated:
        return Path(stated) / "stadtschild"
    return Path(home) / ".cache" / "stadtschild" if home else None


def expansions_of(placeholders: Sequence[str] | None) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in placeholders or ():
        name, equals, value = each.partition("=")
        if not equals or not name:
            fail(f"--placeholder: `{each}` is no NAME=VALUE", USAGE)
        found.setdefault(name.strip("%"), []).append(value)
    return found


@rules_app.command(
    name="test",
    help="Run the tests inside rule and profile files with the production engine."
    + EXAMPLE
    + "shield rules test rules/sigma rules/profiles",
)
def rules_test(paths: Paths, json: AsJson = False) -> None:
    from detectors.behaviour import ProfileError, profile_tests
    from detectors.sigma import RuleSet
    from detectors.sigma.documents import files
    from detectors.sigma.rule_tests import run_tests
    from shield.config import ROOT

    missing = [p for p in paths if not p.exists()]
    if missing:
        fail(f"{missing[0]}: no such file or folder", USAGE)
    found = files(paths)
    profiles = [path for path in found if profile_tests.is_profile(path)]
    rules = RuleSet.load([path for path in found if path not in profiles])
    try:
        results = run_tests(rules) + profile_tests.run_tests(profiles, beside=[ROOT / "rules" / "profiles"])
    except ProfileError as error:
        fail(str(error), USAGE)
    failed = [r for r in results if not r.passed]
    for result in results if json else failed:
        if json:
            typer.echo(_encode(result).decode())
        else:
            typer.echo(f"{result.path}: test `{result.name}` of `{result.title}`: {result.detail}")
    parts = [f"{len(rules.rules)} rules"] if rules.rules or not profiles else []
    parts += [f"{len({r.rule for r in results} - rules.rules.keys())} profiles"] if profiles else []
    say(f"{len(results) - len(failed)} of {len(results)} tests of {' and '.join(parts)} passed")
    raise typer.Exit(FINDINGS if failed else OK)


@rules_app.command(
    name="match",
    help='The bare engine: reads events from stdin, one per line, and writes one line {"event": LINE, "rule": ID} per match; '
    "lines count from 0, blank and unreadable ones too. No alerts, no folding; parts of correlations are reported like "
    "any rule, a correlation with the event that completes it, once per burst, each event at its own time.\n\n"
    "Events: Windows in any form of the parser `windows` (flat, winlogbeat, EVTX as JSON or XML), ECS, or any JSON "
    "object, whose keys are then the fields. An event that names no source of its own meets the rules of any source that read a field which it has. With "
    "--logsource all events are of that source; what it leaves open speaks against no rule. A rule without an id goes "
    "by a UUID made of its name or title. Refused rules are named on stderr, the others run; the exit code is 1 when "
    "none is left." + EXAMPLE + "shield rules match rules/sigma --logsource product=windows < events.ndjson",
)
def match(
    paths: Paths,
    logsource: Annotated[
        str | None, typer.Option(help="Take every event as of this source: product=..,category=..,service=..")
    ] = None,
    events: Annotated[Path | None, typer.Option(help="Read events from this file (also .gz) instead of stdin.")] = None,
    parser: Annotated[
        str | None, typer.Option(help="Read lines with this parser of `shield parsers`, or auto, as in production.")
    ] = None,
    placeholder: Placeholders = None,
    cache: CacheFolder = None,
) -> None:
    import gc
    import time

    from connectors.parse import UnknownParser
    from detectors.sigma.native import Lines
    from shield.keyed import TenantStore
    from shield.rule_matching import Counts, Forms, Matcher, lines_of, log_source, pairs

    try:
        source = log_source(logsource) if logsource else None
        forms = Forms(time.time(), parser)
    except UnknownParser as error:
        fail(str(error), USAGE)
    except ValueError as error:
        fail(f"--logsource: {error}", USAGE)
    rules = loaded(paths, cache, expansions_of(placeholder))
    for fault in rules.faults:
        say(f"refused: {fault}")
    if not rules.rules:
        say("no rule could be loaded")
        raise typer.Exit(FINDINGS)
    store = TenantStore("match")
    matcher = Matcher(rules, source, store)
    if not matcher.rules:
        say(f"no rule is of the log source {logsource}")
    if parser is None and source is None and not any(rule.correlation for rule in rules.rules.values()):
        forms = cast("Forms", Lines(rules.rules.values(), forms.read))
    counts = Counts()
    endings = {rule: f', "rule": {_encode(rule).decode()}}}\n' for rule in rules.rules}
    gc.freeze()  # rules and tables stay; what a batch leaves behind holds no circles
    gc.disable()
    try:
        with _input(events, "" if sys.stdout.isatty() else "matching") as read:  # a bar would run through the answers
            for found in pairs(lines_of(read), forms, matcher.matches, counts):
                if found:
                    sys.stdout.write("".join([f'{{"event": {number}{endings[rule]}' for number, rule in found]))
                    sys.stdout.flush()
                for _ in store.changes():  # nobody restores this state
                    pass
    finally:
        gc.enable()
        gc.unfreeze()
    if counts.unreadable:
        hint = "; one event per line is read (`jq -c . FILE` makes such lines)" if not counts.events else ""
        say(f"{counts.unreadable} of {counts.lines} lines could not be read{hint}")
    if matcher.unplaced:
        say(f"{matcher.unplaced} of {counts.events} events name no log source; --logsource can state it")


@rules_app.command(
    help="Read rules as a reviewer would: all faults at once, and warnings about parts that are missing or unused, values "
    "that YAML or Sigma read otherwise than meant, conditions that can never match, and twins. The exit code is 1 when "
    "there is a fault, with --strict also when there is a warning." + EXAMPLE + "shield rules lint my-rules --strict",
)
def lint(
    paths: Paths,
    strict: Annotated[bool, typer.Option("--strict", help="A warning is a finding, too.")] = False,
    placeholder: Placeholders = None,
    cache: CacheFolder = None,
    json: AsJson = False,
) -> None:
    from detectors.sigma.review import review

    rules = loaded(paths, cache, expansions_of(placeholder))
    faults = [(fault, "error") for fault in rules.faults]
    warnings = [(fault, "warning") for fault in sorted({*rules.warnings, *review(paths, rules.rules, rules.faults)})]
    for fault, severity in sorted(faults + warnings):
        if json:
            typer.echo(_encode({"severity": severity, **msgspec.structs.asdict(fault)}).decode())
        else:
            about = f" (rule {fault.rule})" if fault.rule else ""
            typer.echo(f"{fault.path}:{fault.line}: {severity}: {fault.message}{about}")
    say(f"{len(rules.rules)} rules, {len(faults)} errors, {len(warnings)} warnings")
    raise typer.Exit(FINDINGS if faults or (strict and warnings) else OK)


@rules_app.command(
    help="Why a rule meets an event or not: its condition as a tree, each clause with the value that decided it. RULE is "
    "a file, or the id, name or title of a rule below --rules. EVENT is a file, - for stdin, or the event itself as JSON "
    "or XML; of several lines --line names one, counted from 0 as by `shield rules match`. The exit code is 0 when the "
    "rule matches, 1 when it does not."
    + EXAMPLE
    + "shield rules explain 0f0d1a52-6a0c-4a7a-9f35-6a8b8c1d2e3f events.ndjson --line 17\n\nExample: "
    """shield rules explain my-rules/backup.yml '{"CommandLine": "vssadmin delete shadows"}'""",
)
def explain(
    rule: Annotated[str, typer.Argument(help="A file, or an id, name or title.", metavar="RULE")],
    event: Annotated[str, typer.Argument(help="A file, - or the event itself.", metavar="EVENT")],
    rules: Annotated[
        list[Path] | None, typer.Option(help="Where rules are looked for by name; the bundled ones by default.")
    ] = None,
    line: Annotated[int | None, typer.Option(min=0, help="The line of the event.")] = None,
    parser: Annotated[str | None, typer.Option(help="Read the event with this parser.")] = None,
    placeholder: Placeholders = None,
    every: Annotated[bool, typer.Option("--all", help="Show all clauses of long lists.")] = False,
    cache: CacheFolder = None,
    json: AsJson = False,
) -> None:
    from detectors.sigma.documents import documents
    from detectors.sigma.explanation import explain as explained
    from shield.rule_matching import UNKNOWN

    expansions = expansions_of(placeholder)
    found = _rules_named(rule, rules, expansions, cache)
    events = _events_in(event, line, parser)
    matched = False
    for one in found:
        path = Path(one.path)
        written = [each for each in documents(path, path.read_bytes(), []) if each.body.line == one.line]
        for each in events:
            answer = explained(
                one, written[0] if written else None, each, expansions, known=each.event_dataset != UNKNOWN
            )
            matched = matched or answer.matches
            if json:
                typer.echo(_encode(answer).decode())
            else:
                _show_explanation(answer, every=every)
    raise typer.Exit(OK if matched else FINDINGS)


def _rules_named(
    name: str, within: list[Path] | None, expansions: Mapping[str, Sequence[str]], cache: Path | None
) -> "list[Rule]":
    """The rules of a file, or the one with this id, name or title."""
    from difflib import get_close_matches

    from shield.config import ROOT

    path = Path(name)
    if path.is_file():
        held = loaded([path, *(within or ())], cache, expansions)
        found = [one for one in held.rules.values() if one.path == str(path)]
        faults = [fault for fault in held.faults if fault.path == str(path)]
        if faults or not found:
            fail("\n".join(map(str, faults)) or f"{name}: there is no rule in this file", USAGE)
    else:
        held = loaded(within or [ROOT / "rules" / "sigma"], cache, expansions)
        found = [one for one in held.rules.values() if name.lower() in {one.id, one.name.lower(), one.title.lower()}]
        if not found:
            faults = [fault for fault in held.faults if name in fault.rule]
            names = [word for one in held.rules.values() for word in (one.id, one.name, one.title) if word]
            near = get_close_matches(name, names, 1)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            fail("\n".join(map(str, faults)) or f"there is no file and no rule `{name}`{hint}", USAGE)
    single = [one for one in found if one.condition is not None]
    if not single:
        parts = found[0].correlation.rules if found[0].correlation else ()
        fail(f"`{name}` is a correlation; explain its rules: {', '.join(parts)}", USAGE)
    return single


def _events_in(text: str, line: int | None, parser: str | None) -> "Sequence[Event]":
    """The events of one line of a file, of stdin, or of the text itself; a document over many lines is one event."""
    import time

    from connectors.parse import UnknownParser
    from connectors.tolerant_json import decode
    from shield.rule_matching import Forms

    if text.lstrip()[:1] in {"{", "<", "["}:
        content = text.encode("utf-8", "replace")
    else:
        content = sys.stdin.buffer.read() if text == "-" else Path(text).read_bytes()
    try:
        forms = Forms(time.time(), parser)
    except UnknownParser as error:
        fail(str(error), USAGE)
    lines = content.split(b"\n")
    if line is not None:
        if line >= len(lines):
            fail(f"--line {line}: there are {len(lines)} lines", USAGE)
        lines = [lines[line]]
    else:
        lines = [each for each in lines if each.strip()]
        body, damaged = decode(content.decode("utf-8", "replace").strip())
        if len(lines) > 1 and isinstance(body, dict) and not damaged:
            try:
                msgspec.json.decode(content)
                lines = [_encode(body)]  # one object, laid out over many lines
            except msgspec.DecodeError:
                pass
    events = forms.read(lines[:1])[0] if lines else ()
    if not events:
        fail("the event cannot be read: neither a Windows event nor a JSON object", USAGE)
    if len(lines) > 1:
        say(f"the first of {len(lines)} lines is explained; --line names another")
    return events


def _show_explanation(answer: "Explanation", *, every: bool) -> None:
    signs = ("\u2713", "\u2717") if (sys.stdout.encoding or "").lower().startswith("utf") else ("+", "-")
    verdict = "matches" if answer.matches else "does not match"
    typer.secho(f"{answer.title} {verdict}", bold=True, fg="green" if answer.matches else "red")
    typer.echo(f"  {answer.path}:{answer.line}, rule {answer.rule}")
    typer.echo(f"  log source of the rule: {answer.source}; of the event: {answer.event_source}")
    if not answer.routed:
        typer.secho("  the event is of another log source: the rule is not asked", fg="red")

    def show(clause: "Clause", depth: int) -> None:
        value = "" if clause.value is None else f": {_short(clause.value)}"
        note = f" ({clause.note})" if clause.note else ""
        sign = signs[0 if clause.held else 1]
        typer.secho(f"{'  ' * depth}{sign} {clause.text}{value}{note}", fg="green" if clause.held else "red")
        failing = [each for each in clause.clauses if not each.held]
        hidden = failing[CLAUSES_SHOWN:] if not every and len(failing) > CLAUSES_SHOWN + 1 else []
        for each in clause.clauses:
            if not any(each is one for one in hidden):
                show(each, depth + 1)
        if hidden:
            typer.echo(f"{'  ' * (depth + 1)}... {len(hidden)} more that do not hold (--all shows them)")

    show(answer.condition, 1)


def _short(value: object) -> str:
    from detectors.sigma.explanation import quoted

    text = quoted(value) if isinstance(value, str) else str(value)
    return text if len(text) <= VALUE_CHARS_SHOWN else text[:VALUE_CHARS_SHOWN] + "..."


@rules_app.command(
    help="Which rules can ever match what the sources of a configuration deliver. Reports rules whose log source no "
    "source delivers, that need a field which none has, or that contradict themselves, with the parsers that would help, "
    "and sums up by ATT&CK technique. With --strict the exit code is 1 when there is such a rule."
    + EXAMPLE
    + "shield rules coverage shield.yml --rules sigma/rules --navigator layer.json",
)
def coverage(
    config: Annotated[Path, typer.Argument(help="The configuration file.", metavar="CONFIG")],
    rules: Annotated[list[Path] | None, typer.Option(help="These rules instead of the configured ones.")] = None,
    navigator: Annotated[Path | None, typer.Option(help="Write a layer for the ATT&CK Navigator to this file.")] = None,
    every: Annotated[bool, typer.Option("--all", help="List the rules that can match, too.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="A rule that can never match is a finding.")] = False,
    cache: CacheFolder = None,
    json: AsJson = False,
) -> None:
    from shield import config as configs
    from shield import rule_coverage as covered

    settings = configs.load(config)
    held = loaded(rules or settings.rule_paths, cache or _folder(settings), settings.placeholders)
    for fault in held.faults:
        say(f"refused: {fault}")
    found = covered.coverage(held, [(source.source, source.parser) for source in settings.sources])
    by_technique = covered.techniques(found)
    statuses = covered.counted(found, lambda each: each.status)
    if navigator:
        navigator.write_bytes(
            msgspec.json.format(_encode(covered.navigator(by_technique, f"Sigma rules of {config.name}")), indent=1)
        )
    shown = found if every else list(covered.dead(found))
    if json:
        typer.echo(_encode({"counts": statuses, "rules": shown, "techniques": by_technique}).decode())
    else:
        if shown:
            table(
                ("status", "level", "rule", "log source", "reason", "would deliver"),
                [
                    (each.status, each.level, each.title, each.logsource or "any", each.reason, ", ".join(each.parsers))
                    for each in sorted(shown, key=lambda one: (one.status, one.logsource, one.title))
                ],
            )
            typer.echo("")
        table(
            ("technique", "can match", "perhaps", "cannot"),
            [(each.technique, str(each.working), str(each.perhaps), str(each.dead)) for each in by_technique],
            right=("can match", "perhaps", "cannot"),
        )
    say(f"{len(found)} rules: " + ", ".join(f"{count} {status}" for status, count in sorted(statuses.items())))
    raise typer.Exit(FINDINGS if strict and any(covered.dead(found)) else OK)


@rules_app.command(
    help="What each rule finds and costs, the dearest first: hits, the events for which the index had it run (asked), "
    "microseconds per event and share of the matching, and which share of its alerts analysts called false (- where there "
    "is no verdict). With CONFIG on its newest raw lines and with its alerts and verdicts, or on --events."
    + EXAMPLE
    + "shield rules stats shield.yml\n\nExample: shield rules stats --rules my-rules --events events.ndjson --top 20",
)
def stats(
    config: Annotated[Path | None, typer.Argument(help="The configuration file.", metavar="[CONFIG]")] = None,
    rules: Annotated[list[Path] | None, typer.Option(help="These rules instead of the configured ones.")] = None,
    events: Annotated[Path | None, typer.Option(help="Events of this file, one per line.")] = None,
    logsource: Annotated[str | None, typer.Option(help="Take every event as of this source, as `match` does.")] = None,
    parser: Annotated[str | None, typer.Option(help="Read the lines of --events with this parser.")] = None,
    lines_max: Annotated[int, typer.Option(min=1, help="Read at most so many lines.")] = STATS_LINES_MAX,
    top: Annotated[int, typer.Option(min=0, help="List so many rules, 0 for all that were hit or asked.")] = 0,
    placeholder: Placeholders = None,
    cache: CacheFolder = None,
    json: AsJson = False,
) -> None:
    from shield import config as configs
    from shield import roles, rule_stats
    from shield.rule_matching import log_source

    roles.speak(quiet=True)
    settings = configs.load(config) if config else None
    if settings is None and not (rules and events):
        fail("name a configuration, or --rules and --events", USAGE)
    try:
        source = log_source(logsource) if logsource else None
    except ValueError as error:
        fail(f"--logsource: {error}", USAGE)
    held = loaded(
        rules or (settings.rule_paths if settings else []),
        cache or (_folder(settings) if settings else None),
        expansions_of(placeholder) or (settings.placeholders if settings else None),
    )
    for fault in held.faults:
        say(f"refused: {fault}")
    batches = _events_of_file(events, parser, lines_max) if events else _newest_events(settings, lines_max)
    found = rule_stats.measure(held, source, batches, _dispositions(settings))
    shown = [each for each in found.rules if each.hits or each.asked or each.alerts]
    shown = shown[:top] if top else shown
    if json:
        typer.echo(_encode(msgspec.structs.replace(found, rules=shown)).decode())
    else:
        columns = ("rule", "level", "hits", "asked", "us/event", "share", "alerts", "false")
        table(
            columns,
            [
                (
                    each.title,
                    each.level,
                    str(each.hits),
                    str(each.asked),
                    f"{each.us_per_event:.4f}",
                    f"{each.share:.1%}",
                    str(each.alerts) if settings else "-",
                    "-" if each.false_share is None else f"{each.false_share:.0%} of {each.decided}",
                )
                for each in shown
            ],
            right=columns[2:],
        )
    say(
        f"{found.events} events, {sum(each.hits for each in found.rules)} hits; {found.us_per_event:.1f} us per event, "
        f"of which {found.index_us:.1f} us go into finding the rules to ask"
    )


def _events_of_file(path: Path, parser: str | None, lines_max: int) -> "Iterator[Sequence[Event]]":
    import time

    from connectors.parse import UnknownParser
    from shield.rule_matching import Forms, lines_of

    try:
        forms = Forms(time.time(), parser)
    except UnknownParser as error:
        fail(str(error), USAGE)
    left = lines_max
    with _input(path, "measuring") as read:
        for lines in lines_of(read):
            yield [event for events in forms.read(lines[:left]) for event in events]
            left -= len(lines)
            if left <= 0:
                return


@contextmanager
def _input(path: Path | None, title: str) -> "Iterator[Callable[[int], bytes]]":
    """Reads stdin, or a file with a progress bar of this title."""
    from shield.rule_matching import reading

    if path is None:
        yield partial(os.read, sys.stdin.fileno())
        return
    bar = progress(title, path.stat().st_size) if title else nullcontext(lambda _: None)
    with bar as advance, reading(path, advance) as read:
        yield read


def _newest_events(settings: "Config | None", lines_max: int) -> "Iterator[Sequence[Event]]":
    """The newest lines of the raw topic, or the lines of the file sources, read by the parsers of their sources."""
    from connectors.parse import Reader
    from shield.rule_stats import lines_in

    if settings is None:
        return
    sources = {(source.tenant, source.source): source for source in settings.sources}
    readers: dict[tuple[str, str], Reader] = {}
    left = lines_max
    for tenant, name, received, lines in lines_in(settings):
        reader = readers.get((tenant, name))
        if reader is None:
            source = sources.get((tenant, name))
            reader = readers[tenant, name] = (
                Reader(source.parser, tenant, name, source.timezone, source.year, join=True, starts=source.starts)
                if source
                else Reader("auto", tenant, name)
            )
        yield reader.read(lines[:left], received).events
        left -= len(lines)
        if left <= 0:
            return


def _dispositions(settings: "Config | None") -> "Mapping[str, Counter[str]]":
    from shield.models import signing_key
    from shield.rule_stats import broker_of, dispositions
    from shield.verdicts import TOPIC, decisions

    broker = broker_of(settings) if settings else None
    if settings is None or broker is None:
        return {}
    held = decisions(broker.read(TOPIC), signing_key(settings))
    words = {alert: verdict.disposition for alert, verdict in held.verdicts.items()}
    return dispositions((record.value for record in broker.read("alerts")), words)


def _folder(settings: "Config") -> Path | None:
    return Path(settings.rules_cache) if settings.rules_cache else None


@rules_app.command(hidden=True, help="Print what parsers deliver, from the golden samples in a folder.")
def deliveries(golden: Annotated[Path, typer.Argument(help="The folder of golden samples.")]) -> None:
    from shield import rule_coverage as covered

    typer.echo(covered.encoded(covered.deliveries(golden)).decode(), nl=False)
