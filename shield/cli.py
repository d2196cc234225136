"""The command line. Exit codes: 0 ok, 1 findings, 2 usage or configuration error, 3 runtime failure."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from shield import cli_behaviour, cli_tuning
from shield.cli_rules import rules_app
from shield.terminal import EXAMPLE, FAILURE, FINDINGS, OK, USAGE, AsJson, ConfigPath, fail, progress, say

DEFAULT_CONFIG = Path("shield.yml")
PARSE_LINES = 2_000  # read at once from a file; a pipe is answered line by line as it comes
EXPLAINED_CHARS_MAX = 200  # of a line or of what a pattern took

app = typer.Typer(
    name="shield",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Stadtschild: raw log lines in, explained alerts out.\n\nStart with: shield check shield.yml, then shield run shield.yml",
)
app.add_typer(rules_app, name="rules")
cli_tuning.add_to(rules_app)

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")]
Worker = Annotated[str | None, typer.Option(help="Name of this worker, the same after a restart.")]
_encode = msgspec.json.Encoder().encode


def main() -> None:
    """Entry point: errors of use and of configuration become one clear line and an exit code."""
    import shield.broker
    from detectors.behaviour import ProfileError
    from detectors.sigma import RuleFaults
    from shield.config import ConfigError

    try:
        app()
    except (ConfigError, RuleFaults, ProfileError) as error:
        fail(str(error), USAGE)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        fail(f"{error.filename}: {error.strerror}", USAGE)
    except LookupError as error:
        fail(str(error).strip("'\""), USAGE)
    except shield.broker.BrokerDown as error:
        fail(f"the broker does not answer: {error}", FAILURE)
    except BrokenPipeError:
        sys.exit(OK)
    except OSError as error:
        fail(str(error), FAILURE)


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    if version:
        from shield import __version__

        typer.echo(f"shield {__version__}")
        raise typer.Exit(OK)


# Roles


@app.command(help="Run everything from one configuration: all roles, supervised." + EXAMPLE + "shield run shield.yml")
def run(config: ConfigPath = DEFAULT_CONFIG) -> None:
    from shield import config as configs
    from shield import roles

    roles.speak()
    loaded = configs.load(config)
    roles.stages(loaded)  # faults of rules and profiles show before anything starts
    raise typer.Exit(roles.supervise(loaded, str(config)))


@app.command(help="Receive lines and write them to the raw topic." + EXAMPLE + "shield ingest shield.yml")
def ingest(config: ConfigPath, worker: Worker = None) -> None:
    from shield import config as configs
    from shield import roles

    roles.speak()
    complete = roles.run_ingest(configs.load(config), roles.worker_name(worker, "ingest"))
    raise typer.Exit(OK if complete else FAILURE)


@app.command(help="Turn lines into alerts." + EXAMPLE + "shield detect shield.yml --worker detect-0")
def detect(config: ConfigPath, worker: Worker = None) -> None:
    from shield import config as configs
    from shield import roles

    roles.speak()
    roles.run_detect(configs.load(config), roles.worker_name(worker, "detect"))


@app.command(help="Hand alerts to one sink, or to the only one." + EXAMPLE + "shield deliver shield.yml --sink siem")
def deliver(
    config: ConfigPath,
    sink: Annotated[str | None, typer.Option(help="Name of the sink.")] = None,
    worker: Worker = None,
) -> None:
    from shield import config as configs
    from shield import roles

    roles.speak()
    loaded = configs.load(config)
    names = [s.name for s in loaded.sinks]
    if sink is None and len(names) != 1:
        fail(f"name one of the sinks with --sink: {', '.join(names) or 'none is configured'}", USAGE)
    chosen = [s for s in loaded.sinks if sink in {None, s.name}]
    if not chosen:
        fail(f"there is no sink `{sink}`{configs.nearest(str(sink), names)}; there are {', '.join(names)}", USAGE)
    roles.run_deliver(loaded, roles.worker_name(worker, f"deliver-{chosen[0].name}"), chosen[0])


@app.command(help="Learn from the history: calibration, forests, thresholds." + EXAMPLE + "shield train shield.yml")
def train(config: ConfigPath, json: AsJson = False) -> None:
    from shield import config as configs
    from shield import roles

    summary = roles.run_train(configs.load(config))
    if json:
        typer.echo(roles.summary(summary))
        return
    typer.echo(f"learned from {summary['points']} points of {summary['days']} days, {len(summary['tenants'])} tenants")
    for tenant, threshold in summary["thresholds"].items():
        typer.echo(f"  {tenant if tenant != '*' else 'tenants without history'}: alerts open at risk {threshold}")
    for one in summary["shifted"]:
        typer.echo(
            f"  {one['family']}: last week differs from before (PSI {one['index']}, {one['times']} times as many points a day)"
        )


# Files in, alerts out


@app.command(
    help="The whole pipeline once over the file sources of a configuration, without a server and leaving nothing behind."
    + EXAMPLE
    + "shield scan scan.yml --learn-until 2026-11-03 --alerts alerts.ndjson"
)
def scan(
    config: ConfigPath,
    learn_until: Annotated[str | None, typer.Option(help="Lines before this time (ISO 8601) only teach.")] = None,
    alerts: Annotated[
        str | None, typer.Option(help="Write every alert document as NDJSON to a file, or - for stdout.")
    ] = None,
    json: AsJson = False,
) -> None:
    import time

    from shield import config as configs
    from shield import roles
    from shield.scan import Scan, files_of

    roles.speak(quiet=True)
    loaded = configs.load(config)
    try:
        stated = learn_until or loaded.learn_until
        until = configs.instant(stated) if stated else None
    except ValueError:
        fail(f"--learn-until: `{learn_until}` is no ISO 8601 time (for example 2026-11-03T06:00:00+01:00)", USAGE)
    files = files_of(loaded)
    if not files:
        fail(f"{config}: no file sources to scan (`- {{use: file, mode: replay, path: ...}}`)", USAGE)
    raw, signals = roles.stages(msgspec.structs.replace(loaded, learn_until=None), future_s=float("inf"))
    signals.learn_until = until or 0.0
    for warning in signals.rules.warnings:
        say(f"warning: {warning}")
    started = time.perf_counter()
    latest: dict[str, dict[str, Any]] = {}
    with _sink_for(alerts) as write, progress("scanning", sum(path.stat().st_size for _, path in files)) as advance:

        def seen(kind: str, document: bytes) -> None:
            write(document)
            read = msgspec.json.decode(document)
            latest[read["event"]["id"]] = read
            if kind == "alert.created" and not json and alerts != "-":
                _show(read)

        run = Scan(loaded, raw, signals, seen)
        run.run(now=time.time(), learn_until=until, progress=advance)
    took = time.perf_counter() - started
    tally = run.tally
    result = {
        "lines": tally.lines,
        "blank": tally.blank,
        "joined": tally.joined,
        "events": tally.events,
        "unreadable": sum(tally.dead.values()),
        "unreadable_by_reason": tally.dead,
        "detections": sum(tally.matches.values()),
        "observations": sum(tally.observations.values()),
        "alerts": len(latest),
        "seconds": round(took, 3),
        "lines_per_second": round(tally.lines / took) if took else 0,
    }
    if json:
        typer.echo(_encode(result).decode(), err=alerts == "-")
    else:
        say(_sentence(result))
    raise typer.Exit(FINDINGS if latest else OK)


@app.command(
    help="Feed files into a running system, as if their source sent them."
    + EXAMPLE
    + "shield replay firewall.log --source fw --tenant town-a --speed 100"
)
def replay(
    files: Annotated[list[Path], typer.Argument(help="Log files, also .gz.", metavar="FILE...")],
    source: Annotated[str, typer.Option(help="Name of the source.")],
    tenant: Annotated[str, typer.Option(help="Tenant of the source.")],
    speed: Annotated[str, typer.Option(help="max, real, or how many times faster than it happened.")] = "max",
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    from connectors.inlet import SourceConfig
    from shield import config as configs
    from shield.replay import Replay, pace

    loaded = configs.load(config)
    known = [s for s in loaded.sources if (s.tenant, s.source) == (tenant, source)]
    try:
        factor = pace(speed)
    except ValueError as error:
        fail(str(error), USAGE)
    part = known[0] if known else SourceConfig(tenant=tenant, source=source)
    with progress("replaying", sum(f.stat().st_size for f in files)) as advance:
        lines = Replay(loaded).run([(part, f) for f in files], factor, progress=advance)
    say(f"{lines} lines handed over as source {source} of {tenant}")


@app.command(
    name="demo-logs",
    help="Write a small town's logs with planted attacks."
    + EXAMPLE
    + "shield demo-logs --seed 7 --lines 20000 --out demo",
)
def demo_logs(
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    seed: Annotated[int, typer.Option(help="The same seed writes the same logs.")] = 1,
    lines: Annotated[int, typer.Option(min=1_000, help="Lines of the day, attacks included.")] = 20_000,
    history_days: Annotated[int, typer.Option(min=0, help="Quiet days before it, into OUT/history.")] = 0,
    history_lines: Annotated[int | None, typer.Option(min=500, help="Lines of each quiet day.")] = None,
) -> None:
    from shield.demo_logs import write

    truth = write(out, seed, lines, history_days, history_lines)
    say(f"{lines} lines in {out}; {len(truth)} planted attacks in {out / 'truth.jsonl'}")


@app.command(
    help='Read lines from stdin, write one JSON object per line to stdout: the ECS document, or {"error": ...}.'
    + EXAMPLE
    + "shield parse --parser fortigate --timezone Europe/Berlin < firewall.log"
)
def parse(
    parser: Annotated[str, typer.Option(help="A name of `shield parsers`, or auto.")] = "auto",
    tenant: Annotated[str, typer.Option(help="Tenant of the lines.")] = "default",
    timezone: Annotated[str, typer.Option(help="Zone of times that state none.")] = "UTC",
    year: Annotated[int | None, typer.Option(help="Year of times that state none.")] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show which pattern took which part of each line.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --explain: one JSON object per line.")] = False,
) -> None:
    import time
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    from connectors.events import document
    from connectors.parse import Reader, UnknownParser

    try:
        ZoneInfo(timezone)
        reader = Reader(parser, tenant, "stdin", timezone, year)
    except UnknownParser as error:
        fail(str(error), USAGE)
    except (ZoneInfoNotFoundError, ValueError):
        fail(f"unknown time zone `{timezone}` (for example Europe/Berlin)", USAGE)
    if explain:
        _explain_lines(reader, as_json=as_json)
        return
    out = sys.stdout.buffer
    for lines in _chunks():
        answers: list[list[dict[str, Any]]] = [[] for _ in lines]
        parsed = reader.read(lines, time.time())
        for event, index in zip(parsed.events, parsed.line_of, strict=True):
            original = lines[index].decode("utf-8", "replace")
            doc = document(event, original)
            doc.setdefault("organization", {})["id"] = tenant
            answers[index].append(doc)
        for index, reason, _ in parsed.dead:
            answers[index] = [{"error": {"message": reason}}]
        for answer in answers:
            found: dict[str, Any] = (
                answer[0]
                if len(answer) == 1
                else {"events": answer}
                if answer
                else {"error": {"message": "blank line"}}
            )
            out.write(_encode(found) + b"\n")
        out.flush()


def _explain_lines(reader: Any, *, as_json: bool) -> None:
    import time

    import msgspec

    from connectors.events import Origin
    from connectors.explain import explain
    from connectors.parse import decode

    number = 0
    for lines in _chunks():
        for line in lines:
            number += 1
            text = decode(line)
            origin = Origin(reader.tenant, reader.source, time.time(), reader.clock)
            found = explain(reader.parser, text, origin)
            if as_json:
                typer.echo(msgspec.json.encode(found).decode())
                continue
            typer.secho(f"line {number}: {found.parser}", bold=True)
            typer.echo(f"  {text[:EXPLAINED_CHARS_MAX]}")
            if found.asked:
                typer.echo("  asked: " + ", ".join(f"{name} {'yes' if yes else 'no'}" for name, yes in found.asked))
            if found.error:
                typer.secho(f"  not read: {found.error}", fg="red")
            for taken in found.patterns:
                where = "-" if taken.start is None else f"{taken.start}-{taken.end}"
                typer.echo(f"  {where:>10}  {taken.pattern}  {taken.text[:EXPLAINED_CHARS_MAX]!r}")
            for event in found.events:
                for placed in event:
                    where = "concluded" if placed.start is None else f"{placed.start}-{placed.end}"
                    typer.echo(f"  {where:>10}  {placed.field} = {placed.value!r}")


@app.command(help="List the parsers, one name per line.")
def parsers() -> None:
    from connectors.parse import parser_names

    for name in parser_names():
        typer.echo(name)


# Looking at a system


@app.command(help="Show alerts, newest revision each." + EXAMPLE + "shield alerts --follow --config shield.yml")
def alerts(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more.")] = False,
    json: AsJson = False,
    newest: Annotated[int, typer.Option(help="At most this many of the last revisions.")] = 1_000,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    broker = _reader(config)
    shown: dict[bytes, dict[str, Any]] = {}
    for record in broker.read("alerts", follow=follow, newest=newest):
        if json:
            typer.echo(record.value.decode())
        elif follow:
            if record.headers.get("kind") == "alert.created":
                _show(msgspec.json.decode(record.value))
        else:
            shown.pop(record.key, None)
            shown[record.key] = msgspec.json.decode(record.value)
    for document in shown.values():
        _show(document)
    if not json and not follow:
        say(f"{len(shown)} alerts")


@app.command(
    help="List what could not be read or delivered, or feed it in again."
    + EXAMPLE
    + "shield dead --reason 'no parser' --replay"
)
def dead(
    reason: Annotated[str | None, typer.Option(help="Only with this text in the reason.")] = None,
    replay: Annotated[bool, typer.Option("--replay", help="Feed the original bytes in again.")] = False,
    json: AsJson = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    import base64
    import time

    from shield.broker import Out, Record

    broker = _reader(config)
    found: list[Record] = [
        r for r in broker.read("dead") if not reason or reason.lower() in r.headers.get("reason", "").lower()
    ]
    for record in found:
        text = record.value.decode("utf-8", "replace")
        if json:
            row = {
                **record.headers,
                "received": record.time,
                "body": text,
                "body_base64": base64.b64encode(record.value).decode(),
            }
            typer.echo(_encode(row).decode())
        elif not replay:
            head = " ".join(
                f"{k}={record.headers[k]}" for k in ("stage", "tenant", "source", "origin") if k in record.headers
            )
            typer.echo(f"{record.headers.get('reason', '?')} | {head} | {text[:160]!r}")
    if replay:
        lines = [r for r in found if r.headers.get("stage") != "deliver" and "source" in r.headers]
        outbox = [
            Out(
                "raw",
                r.key,
                r.value,
                time.time(),
                {"tenant": r.headers["tenant"], "source": r.headers["source"], "framing": "single", "lines": "1"},
            )
            for r in lines
        ]
        undelivered = [r for r in found if r.headers.get("stage") == "deliver"]
        outbox += [
            Out(
                "alerts",
                r.key,
                r.value,
                r.time,
                {k: v for k, v in r.headers.items() if k in {"kind", "tenant", "severity"}},
            )
            for r in undelivered
        ]
        broker.commit(None, outbox, [])
        say(f"{len(lines)} lines and {len(undelivered)} alerts fed in again")
    elif not json:
        say(f"{len(found)} dead letters")
    raise typer.Exit(FINDINGS if found and not replay else OK)


@app.command(
    help="Validate and build everything, run all rule tests; needs no broker." + EXAMPLE + "shield check shield.yml"
)
def check(config: ConfigPath, json: AsJson = False) -> None:
    from detectors.sigma.rule_tests import run_tests
    from shield import config as configs
    from shield import roles
    from shield.sinks import open_sink

    loaded = configs.load(config)
    _, signals = roles.stages(loaded)
    faults = []
    for sink in loaded.sinks:
        try:
            open_sink(sink).close()
        except ValueError as error:
            faults.append(f"{config}: sink {sink.name}: {error}")
    for source in loaded.sources:
        tokens = getattr(source, "tokens", ())
        for token in tokens:
            if token.token_env and not os.environ.get(token.token_env):
                faults.append(
                    f"{config}: source {source.source}: the environment variable {token.token_env} is not set"
                )
            elif token.token_file and not Path(token.token_file).is_file():
                faults.append(f"{config}: source {source.source}: there is no token file {token.token_file}")
    rules = signals.rules
    for warning in rules.warnings:
        say(f"warning: {warning}")
    results = run_tests(rules)
    failed = [r for r in results if not r.passed]
    faults += [f"{r.path}: test `{r.name}` of `{r.title}`: {r.detail}" for r in failed]
    if json:
        typer.echo(
            _encode(
                {"faults": faults, "rules": len(rules.rules), "tests": len(results), "sources": len(loaded.sources)}
            ).decode()
        )
    else:
        for fault in faults:
            typer.echo(fault)
        say(
            f"{len(loaded.sources)} sources, {len(loaded.sinks)} sinks, {len(rules.rules)} rules, {len(results)} rule tests, {len(faults)} faults"
        )
    raise typer.Exit(FINDINGS if faults else OK)


@app.command(help="Show the product at work on a small town's logs, on this machine, in about a minute.")
def demo(
    seed: Annotated[int, typer.Option(help="Seed of the logs.")] = 1,
    lines: Annotated[int, typer.Option(min=5_000, help="Lines of the day.")] = 20_000,
    keep: Annotated[Path | None, typer.Option(help="Keep logs, configuration and database in this folder.")] = None,
) -> None:
    from shield.demo import play

    raise typer.Exit(play(seed, lines, keep))


@app.command(hidden=True, help="Print a generated page of docs/: configuration or parsers.")
def docs(page: Annotated[str, typer.Argument(help="configuration or parsers")] = "configuration") -> None:
    from shield import docs_page
    from shield.config import ROOT

    if page not in {"configuration", "parsers"}:
        fail(f"there is no page `{page}`; there are configuration, parsers", USAGE)
    made = docs_page.configuration() if page == "configuration" else docs_page.parsers(ROOT / "tests" / "golden")
    typer.echo(made, nl=False)


cli_behaviour.add_to(app)


def _reader(config: Path) -> Any:
    from shield import config as configs
    from shield.broker import open_broker

    return open_broker(configs.load(config).broker, member="cli")


def _chunks() -> Iterator[list[bytes]]:
    """Lines of stdin: as many as are there, so that a pipe is answered at once."""
    rest = b""
    while data := os.read(sys.stdin.fileno(), 1 << 20):
        *lines, rest = (rest + data).split(b"\n")
        for start in range(0, len(lines), PARSE_LINES):
            yield lines[start : start + PARSE_LINES]
    if rest:
        yield [rest]


def _show(document: dict[str, Any]) -> None:
    typer.echo(line_of(document))


def line_of(document: dict[str, Any]) -> str:
    """One alert on one line: severity, tenant, entity, why."""
    shield = document["shield"]
    entity = shield["entities"][0]["name"] if shield["entities"] else "-"
    again = f" (rev {shield['revision']})" if shield["revision"] > 1 else ""
    return f"{document['@timestamp'][:19]}Z  {shield['level']:<8}  {document['organization']['id']}  {entity}  {document['event']['reason']}{again}"


def _sentence(result: dict[str, Any]) -> str:
    return (
        f"{result['lines']} lines: {result['events']} events, {result['unreadable']} unreadable, {result['blank']} blank; "
        f"{result['detections']} detections, {result['observations']} observations, {result['alerts']} alerts; "
        f"{result['lines_per_second']} lines/s"
    )


@contextmanager
def _sink_for(target: str | None) -> Iterator[Any]:
    if target is None:
        yield lambda _: None
    elif target == "-":
        yield lambda doc: sys.stdout.buffer.write(doc + b"\n")
        sys.stdout.buffer.flush()
    else:
        with Path(target).open("wb") as file:
            yield lambda doc: file.write(doc + b"\n")
