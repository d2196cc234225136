"""`shield rules backtest | diff | tune`: commands that try changes of rules on events of the past before they count."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from shield.cli_rules import CacheFolder, Placeholders, expansions_of, loaded
from shield.terminal import EXAMPLE, FINDINGS, OK, USAGE, AsJson, fail, progress, say, table

if TYPE_CHECKING:
    from detectors.sigma import Rule, RuleSet
    from shield.past_events import Batch, Window
    from shield.rule_trials import Difference, RuleChange

EXPIRES_DAYS = 90  # a drafted filter ends after so many days, unless stated otherwise

Since = Annotated[str | None, typer.Option(help="Only from this time on (ISO 8601).")]
Until = Annotated[str | None, typer.Option(help="Only before this time (ISO 8601).")]
Tenant = Annotated[str | None, typer.Option(help="Only of this tenant.")]
Parser = Annotated[
    str | None,
    typer.Option(
        help="Read log files with this parser of `shield parsers`. Without it, lines of JSON or XML are read as "
        "`shield rules match` does, others by what they look like."
    ),
]
_encode = msgspec.json.Encoder().encode


def add_to(app: typer.Typer) -> None:
    app.command(
        help="Run rules over files or a range of the raw topic and check how often each hits. EXPECTATIONS is YAML:\n\n"
        "unexpected: allow (or fail: a hit of a rule that is not named fails)\n\n"
        "expectations: [{rule: ID, NAME or TITLE, exactly | at_least | at_most: NUMBER}, ...]\n\n"
        "Events are log files (.gz too), or a configuration: then its file sources, or, without any, its raw topic. A "
        "correlation hits once per burst. The exit code is 1 when an expectation fails."
        + EXAMPLE
        + "shield rules backtest my-rules --expectations expected.yml --events november.log.gz --junit report.xml"
        + EXAMPLE
        + "shield rules backtest my-rules --expectations expected.yml --events shield.yml --since 2026-11-01T00:00:00Z",
    )(backtest)
    app.command(
        help="What a change of rules would do, before it counts: which hits and alerts would appear or vanish on past "
        "events, with examples, and what each rule set costs in CPU time per event. OLD and NEW are rule files or "
        "folders; the alerts are those that rules open by themselves, without what is learned. The exit code is 1 when "
        "something would appear or vanish."
        + EXAMPLE
        + "shield rules diff rules-now rules-next --on november.log.gz"
        + EXAMPLE
        + "shield rules diff tuning-now tuning-next --both sigma/rules --on shield.yml --since 2026-11-01",
    )(diff)
    app.command(
        help="Draft a filter for RULE from hits that were judged, and prove it: the false ones stop, the true ones (and "
        "the rule's own positive tests) still hit. HITS are events or log lines, one per line, or alerts as `shield "
        "alerts --json` shows them. Fields that tell who and what is behind a hit are preferred; times, process ids and "
        "hashes are used only where nothing else helps. The exit code is 1, and nothing is written, when no field "
        "separates them."
        + EXAMPLE
        + "shield rules tune 'Scheduled task created' --false false.ndjson --true true.ndjson --owner it-security "
        "--reason 'software distribution' --expires 2027-03-31 --out my-rules/filter-tasks.yml",
    )(tune)


def backtest(
    paths: Annotated[list[Path], typer.Argument(help="Rule files or folders.", metavar="PATH...")],
    expectations: Annotated[Path, typer.Option(help="What is expected.", metavar="FILE")],
    events: Annotated[list[Path], typer.Option(help="Log file or configuration; repeatable.", metavar="FILE")],
    junit: Annotated[Path | None, typer.Option(help="Write the results as JUnit XML.", metavar="FILE")] = None,
    parser: Parser = None,
    since: Since = None,
    until: Until = None,
    tenant: Tenant = None,
    placeholder: Placeholders = None,
    cache: CacheFolder = None,
    json: AsJson = False,
) -> None:
    import time

    from shield import rule_trials

    rules = _refusing(paths, cache, placeholder)
    wanted = rule_trials.expectations(expectations, rules)
    began = time.perf_counter()
    with _past(events, parser, _window(since, until, tenant), "backtesting") as batches:
        hits, read = rule_trials.counted(rules, batches)
    took_s = time.perf_counter() - began
    results = rule_trials.judged(wanted, rules, hits)
    failed = [result for result in results if not result.passed]
    if junit is not None:
        junit.write_bytes(rule_trials.junit(results, str(expectations), took_s))
    if json:
        typer.echo(_encode({"events": read, "failed": len(failed), "results": results}).decode())
    else:
        rows = [("ok" if r.passed else "FAILED", r.title, r.expected, str(r.hits)) for r in results]
        table(("", "rule", "expected", "hits"), rows, right=("hits",))
        for result in failed:
            say(f"{expectations}:{result.line}: `{result.title}`: expected {result.expected}, found {result.hits}")
    say(f"{len(results) - len(failed)} of {len(results)} expectations hold over {read} events, {took_s:.1f} s")
    raise typer.Exit(FINDINGS if failed or not read else OK)


def diff(
    old: Annotated[Path, typer.Argument(help="The rules as they are: a file or folder.", metavar="OLD")],
    new: Annotated[Path, typer.Argument(help="The rules as they would be.", metavar="NEW")],
    on: Annotated[list[Path], typer.Option(help="Log file or configuration; repeatable.", metavar="REPLAY")],
    both: Annotated[
        list[Path] | None, typer.Option(help="Rule files or folders that both have besides.", metavar="PATH")
    ] = None,
    parser: Parser = None,
    since: Since = None,
    until: Until = None,
    tenant: Tenant = None,
    placeholder: Placeholders = None,
    cache: CacheFolder = None,
    json: AsJson = False,
) -> None:
    from shield import rule_trials

    before = _refusing([*(both or ()), old], cache, placeholder)
    after = _refusing([*(both or ()), new], cache, placeholder)
    with _past(on, parser, _window(since, until, tenant), "replaying") as batches:
        found = rule_trials.difference(before, after, batches)
    if json:
        typer.echo(_encode(found).decode())
    else:
        _show(found)
    raise typer.Exit(FINDINGS if any(change.differs for change in found.rules) else OK)


def tune(
    rule: Annotated[str, typer.Argument(help="A rule file, or the id, name or title of a rule.", metavar="RULE")],
    false: Annotated[Path, typer.Option("--false", help="Hits that were judged false.", metavar="HITS")],
    owner: Annotated[str, typer.Option(help="Who answers for the filter.")],
    reason: Annotated[str, typer.Option(help="Why these hits are false.")],
    true: Annotated[Path | None, typer.Option("--true", help="Hits that must stay.", metavar="HITS")] = None,
    expires: Annotated[
        str | None, typer.Option(help=f"The last day of the filter; in {EXPIRES_DAYS} days if not stated.")
    ] = None,
    rules: Annotated[
        list[Path] | None, typer.Option(help="Where the rule is looked for; the bundled ones by default.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the filter to this file instead of stdout.")] = None,
    parser: Parser = None,
    placeholder: Placeholders = None,
    cache: CacheFolder = None,
    json: AsJson = False,
) -> None:
    import time
    from datetime import UTC, datetime, timedelta

    from connectors.parse import UnknownParser
    from detectors.sigma import RuleSet, tuning
    from detectors.sigma.checks import day
    from detectors.sigma.loader import narrowed
    from detectors.sigma.rule_tests import events_of
    from shield import rule_trials
    from shield.config import ROOT

    today = datetime.now(UTC).date()
    last = day(expires) if expires else (today + timedelta(days=EXPIRES_DAYS)).isoformat()
    if last is None or last < today.isoformat():
        fail(f"--expires: `{expires}` is no date that is still to come, for example 2027-03-31", USAGE)
    if not owner.strip() or not reason.strip():
        fail("--owner and --reason must say something", USAGE)
    paths = [Path(rule), *(rules or ())] if Path(rule).is_file() else (rules or [ROOT / "rules" / "sigma"])
    chosen = _one(loaded(paths, cache, expansions_of(placeholder)), rule)
    meets = rule_trials.asks(RuleSet([chosen]), chosen.id)
    try:
        judged_false = rule_trials.hits_in(false, meets, parser, time.time())
        judged_true = rule_trials.Hits([], [], 0)
        if true is not None:
            judged_true = rule_trials.hits_in(true, meets, parser, time.time())
    except UnknownParser as error:
        fail(str(error), USAGE)
    for path, found in ((false, judged_false), (true, judged_true)):
        if found.others:
            say(f"{path}: {found.others} lines are no hit of `{chosen.title}` and are passed over")
    if true is not None and not judged_true.events:
        fail(f"{true}: no line is a hit of `{chosen.title}`, so nothing shows that true hits stay", FINDINGS)
    tests = [event for test in chosen.tests if test["match"] for event in events_of(test)[0] if meets(event)]
    judged_true.events += tests
    judged_true.lines += [0] * len(tests)  # of the rule itself
    try:
        parts = tuning.parts(chosen, judged_false.events, judged_true.events)
    except tuning.NoFilter as none:
        fail(f"no filter for `{chosen.title}`: {none}", FINDINGS)
    text = tuning.document(chosen, parts, tuning.Signed(owner, reason, datetime.fromisoformat(last).date()))
    after = rule_trials.asks(RuleSet([narrowed(chosen, text, today)]), chosen.id)
    proof = rule_trials.proven(after, judged_false, judged_true)
    if not proof.holds:
        fail(f"the drafted filter does not hold: {proof}\n{text}", FINDINGS)
    told = f"{proof.stopped} false hits stop, {proof.kept} true ones still hit ({len(tests)} of them tests of the rule)"
    if out is not None:
        out.write_text(text, encoding="utf-8")
    if json:
        typer.echo(
            _encode({"rule": chosen.id, "parts": [str(p) for p in parts], "proof": proof, "filter": text}).decode()
        )
    elif out is None:
        typer.echo(text, nl=False)
    say(told if out is None else f"{out}: {told}")
    if not judged_true.events:
        say("no true hit was given: nothing shows yet that the filter does not hide any")
    if any(part.stability == tuning.VOLATILE for part in parts):
        say("a value in it changes often (a time, an id or a hash): the filter may stop to help soon")


def _one(rules: "RuleSet", name: str) -> "Rule":
    """The rule of a file, or with this id, name or title."""
    from detectors.sigma.documents import nearest

    if Path(name).is_file():
        found = [one for one in rules.rules.values() if one.path == str(Path(name)) and one.condition is not None]
        faults = [str(fault) for fault in rules.faults if fault.path == str(Path(name))]
        if len(found) != 1:
            problem = "there is no rule in this file" if not found else f"there are {len(found)} rules; name one"
            fail("\n".join(faults) or f"{name}: {problem}", USAGE)
        return found[0]
    called = [one for one in rules.rules.values() if name.lower() in {one.id, one.name.lower(), one.title.lower()}]
    if not called:
        words = frozenset(word for one in rules.rules.values() for word in (one.id, one.name, one.title) if word)
        refused = [str(fault) for fault in rules.faults if fault.rule == name]
        fail("\n".join(refused) or f"there is no file and no rule {name!r}{nearest(name, words)}", USAGE)
    one = called[0]
    if one.correlation is not None:
        below = ", ".join(rules.rules[each].title for each in one.correlation.rules if each in rules.rules)
        fail(f"{one.title!r} is a correlation, which no filter narrows; tune what it counts: {below}", USAGE)
    return one


def _show(found: "Difference") -> None:
    changed = [change for change in found.rules if change.differs or change.change != "same"]
    shown = [change for change in changed if change.differs or change.hits_old or change.hits_new]
    table(
        ("rule", "level", "", "hits", "appear", "vanish", "alerts", "appear", "vanish"),
        [
            (
                one.title,
                one.level,
                one.change if one.change != "same" else "",
                f"{one.hits_old} > {one.hits_new}",
                str(one.appeared),
                str(one.vanished),
                f"{one.alerts_old} > {one.alerts_new}",
                str(one.alerts_appeared),
                str(one.alerts_vanished),
            )
            for one in shown
        ],
        right=("hits", "appear", "vanish", "alerts"),
    )
    for one in shown:
        _show_examples(one)
    if len(changed) > len(shown):
        say(f"{len(changed) - len(shown)} more rules changed, which none of these events meets")
    appear, vanish = sum(one.alerts_appeared for one in shown), sum(one.alerts_vanished for one in shown)
    say(
        f"{found.events} events: {sum(one.appeared for one in shown)} hits appear, {sum(one.vanished for one in shown)} "
        f"vanish; {appear} alerts appear, {vanish} vanish; CPU {found.cpu_us_old} > {found.cpu_us_new} us per event"
    )


def _show_examples(one: "RuleChange") -> None:
    for sign, colour, examples in (("+", "green", one.appeared_examples), ("-", "red", one.vanished_examples)):
        for place, line in examples:
            typer.secho(f"{sign} {one.title}: {place}: {line}", fg=colour)


def _refusing(paths: list[Path], cache: Path | None, placeholders: list[str] | None) -> "RuleSet":
    """The good rules; the refused ones and all warnings are told."""
    rules = loaded(paths, cache, expansions_of(placeholders))
    for fault in rules.faults:
        say(f"refused: {fault}")
    for warning in rules.warnings:
        say(f"warning: {warning}")
    if not rules.rules:
        fail(f"{paths[0]}: no rule could be loaded", USAGE)
    return rules


def _window(since: str | None, until: str | None, tenant: str | None) -> "Window":
    from shield.config import instant
    from shield.past_events import Window

    times = {}
    for key, text in (("since", since), ("until", until)):
        if text is not None:
            try:
                times[key] = instant(text)
            except ValueError:
                fail(f"--{key}: `{text}` is no ISO 8601 time (for example 2026-11-03T06:00:00+01:00)", USAGE)
    return Window(**times, tenant=tenant)


@contextmanager
def _past(files: Sequence[Path], parser: str | None, window: "Window", title: str) -> "Iterator[Iterator[Batch]]":
    """The events of log files, or of one configuration."""
    import time

    from connectors.parse import UnknownParser
    from shield import config as configs
    from shield import past_events
    from shield.scan import files_of

    now_s = time.time()
    settings = [path for path in files if path.suffix in past_events.CONFIGURATIONS]
    if settings and len(files) > 1:
        fail(f"{settings[0]} is a configuration; it stands alone, without other files", USAGE)
    try:
        if not settings:
            with progress(title, sum(path.stat().st_size for path in files)) as advance:
                yield past_events.from_files(files, parser, now_s, window, advance)
            return
        loaded_config = configs.load(settings[0])
        sized = files_of(loaded_config)
        with progress(title, sum(path.stat().st_size for _, path in sized)) as advance:
            if sized:
                yield past_events.from_sources(loaded_config, now_s, window, advance)
            else:
                yield past_events.from_topic(loaded_config, window, advance)
    except UnknownParser as error:
        fail(str(error), USAGE)
