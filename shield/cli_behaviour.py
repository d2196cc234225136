"""Commands around behaviour detection: the inventory, an alert in words, verdicts and exceptions, how far learning is."""

import gzip
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, cast

import msgspec
import typer

from shield.terminal import EXAMPLE, FINDINGS, OK, USAGE, AsJson, ConfigPath, fail, progress, say

if TYPE_CHECKING:
    from connectors.inlet import SourceConfig
    from shield.broker import Out
    from shield.config import Config
    from shield.learning import Learned, Preview
    from shield.verdicts import Decisions, Disposition, Proposal, Tried, Verdict

DEFAULT_CONFIG = Path("shield.yml")
READ_BYTES = 1 << 20
LEARNED_LINES_MAX = 5_000_000
SOON_S = 14 * 86_400.0  # an exception that ends within it is pointed out
CANDIDATES_MAX = 8  # named where the beginning of an id fits several
STYLES: dict[str, dict[str, Any]] = {
    "title": {"bold": True},
    "heading": {"bold": True},
    "dim": {"dim": True},
    "critical": {"fg": "red", "bold": True},
    "high": {"fg": "red"},
    "medium": {"fg": "yellow"},
}

OptionalConfig = Annotated[
    Path | None, typer.Option("--config", "-c", help="The configuration file, usually shield.yml.")
]
AlertsFile = Annotated[
    Path | None, typer.Option(help="Alerts as NDJSON (`shield scan --alerts`) instead of the topic.")
]
_encode = msgspec.json.Encoder().encode


class _Id(msgspec.Struct):
    id: str


class _Revision(msgspec.Struct):
    revision: int


class _Head(msgspec.Struct):
    """What is read of every alert document; the rest only of the one that is wanted."""

    event: _Id
    shield: _Revision


_heads = msgspec.json.Decoder(_Head)


def add_to(app: typer.Typer) -> None:
    app.command(
        name="explain",
        help="Say why an alert was raised: every observation with its numbers, what it may be instead, what to check."
        + EXAMPLE
        + "shield explain 4325b1 --config shield.yml --language de",
    )(explain)
    app.command(
        name="verdict",
        help="Say what an alert was. For benign_expected it proposes exceptions, tries them on all alerts so far and shows "
        "what they would have hidden; they count only with --apply."
        + EXAMPLE
        + "shield verdict 4325b1 --disposition benign_expected --reason 'nightly backup' --owner anna --expires 2027-02-28",
    )(verdict)
    app.command(
        name="profiles",
        help="How far learning is, per tenant and family: warm-up, calibrating, live, and what was found last. "
        "With --budget: what another number of alerts a day would have meant."
        + EXAMPLE
        + "shield profiles shield.yml --budget 3",
    )(profiles)
    app.command(
        name="inventory",
        help="Propose an inventory from the logs: networks, servers, service and admin accounts, scanners, working days. "
        "Prints a commented inventory.yml to read and correct; applies nothing."
        + EXAMPLE
        + "shield inventory shield.yml --learn firewall.log --learn windows.ndjson > inventory.yml",
    )(inventory)


def inventory(
    config: ConfigPath = DEFAULT_CONFIG,
    learn: Annotated[
        list[Path] | None,
        typer.Option(help="Learn from this file, repeatable; otherwise from the raw topic, or the file sources."),
    ] = None,
    lines_max: Annotated[int, typer.Option(min=1, help="Read at most so many lines.")] = LEARNED_LINES_MAX,
    json: AsJson = False,
) -> None:
    from connectors.parse import Reader
    from detectors.behaviour.survey import Survey, written
    from shield import config as configs

    loaded = configs.load(config)
    survey = Survey(loaded.inventory, [source.timezone for source in loaded.sources])
    readers: dict[tuple[str, str], Reader] = {}
    lines = unread = 0
    for source, received, batch in _history(loaded, learn or []):
        key = (source.tenant, source.source)
        if key not in readers:
            readers[key] = Reader(source.parser, *key, source.timezone, source.year, join=True, starts=source.starts)
        parsed = readers[key].read(batch[: lines_max - lines], received)
        survey.add(parsed.events)
        lines, unread = lines + len(batch), unread + len(parsed.dead)
        if lines >= lines_max:
            say(f"stopped after {lines_max} lines (--lines-max)")
            break
    found = survey.proposal()
    sys.stdout.write(_encode(found).decode() + "\n" if json else written(found, loaded.inventory))
    say(f"{lines} lines, {found.events} events, {unread} unreadable")
    raise typer.Exit(OK if found.events else FINDINGS)


def _history(config: "Config", learn: Sequence[Path]) -> Iterator[tuple["SourceConfig", float, list[bytes]]]:
    """(source, arrival, lines) of the named files; else of the raw topic; else of the file sources."""
    import time

    from connectors.inlet import SourceConfig
    from shield.scan import files_of

    missing = [path for path in learn if not path.is_file()]
    if missing:
        fail(f"{missing[0]}: no such file", USAGE)
    files = [(SourceConfig(tenant="default", source=path.stem), path) for path in learn]
    if not files:
        records = _raw_records(config)
        first = next(records, None)
        if first is not None:
            yield from chain([first], records)
            return
        files = files_of(config)
    with progress("reading", sum(path.stat().st_size for _, path in files)) as advance:
        for source, path in files:
            for lines in _lines_of(path, advance):
                yield source, time.time(), lines


def _raw_records(config: "Config") -> Iterator[tuple["SourceConfig", float, list[bytes]]]:
    from connectors.inlet import SourceConfig
    from shield.broker import EmbeddedConfig, open_broker

    if isinstance(config.broker, EmbeddedConfig) and not Path(config.broker.path).exists():
        return  # nothing ever ran here, and nothing is to be left behind
    sources = {(s.tenant, s.source): s for s in config.sources}
    for record in open_broker(config.broker, member="cli").read("raw"):
        tenant, name = record.headers.get("tenant", "default"), record.headers.get("source", "")
        whole = record.headers.get("framing") == "single"
        lines = [record.value] if whole else record.value.split(b"\n")
        yield sources.get((tenant, name)) or SourceConfig(tenant=tenant, source=name), record.time, lines


def _lines_of(path: Path, advance: Callable[[int], None]) -> Iterator[list[bytes]]:
    with path.open("rb") as plain, cast("IO[bytes]", gzip.open(plain) if path.suffix == ".gz" else plain) as file:
        before = 0
        while lines := file.readlines(READ_BYTES):
            advance(plain.tell() - before)
            before = plain.tell()
            yield [line.rstrip(b"\r\n") for line in lines]


# One alert in words


def explain(
    alert: Annotated[str, typer.Argument(help="The alert's id, or its beginning.", metavar="ALERT_ID")],
    config: OptionalConfig = None,
    alerts: AlertsFile = None,
    language: Annotated[str | None, typer.Option(help="de or en; otherwise that of the configuration.")] = None,
    json: AsJson = False,
) -> None:
    import shutil
    from zoneinfo import ZoneInfo

    from detectors.behaviour.inventory import Classes, Inventory
    from shield.config import ROOT, Config
    from shield.explanation import attack_names, explained, told

    loaded = _config(config, needed=alerts is None)
    if language not in {None, "de", "en"}:
        fail(f"--language: there is no `{language}`; there are de, en", USAGE)
    spoken = language or (loaded.language if loaded else "en")
    doc = _one_alert(alert, _alerts(loaded, alerts))
    if loaded is not None and alerts is None:
        doc["shield"]["disposition"] = _decided(loaded, doc["event"]["id"])
    inventory = loaded.inventory if loaded else Inventory()
    found = explained(
        doc,
        spoken,
        classes=Classes(inventory),
        guidance=(loaded or Config()).guidance({}),
        names=attack_names(ROOT / "rules" / "attack.yml"),
    )
    if json:
        typer.echo(_encode(found).decode())
        return
    for style, line in told(found, spoken, ZoneInfo(inventory.timezone), shutil.get_terminal_size().columns):
        typer.secho(line, **STYLES.get(style, {}))


def _decided(config: "Config", alert: str) -> str | None:
    """The last verdict on an alert, for whoever has the key that shows it is ours."""
    from shield.broker import open_broker
    from shield.models import signing_key
    from shield.verdicts import TOPIC, decisions

    try:
        key = signing_key(config)
    except LookupError:
        return None
    judged = decisions(open_broker(config.broker, member="cli").read(TOPIC), key).verdicts.get(alert)
    return f"{judged.disposition} ({judged.owner})" if judged else None


def _config(path: Path | None, *, needed: bool) -> "Config | None":
    """The named configuration; else `shield.yml` where it lies or is needed."""
    from shield import config as configs

    if path is None and not needed and not DEFAULT_CONFIG.is_file():
        return None
    return configs.load(path or DEFAULT_CONFIG)


def _alerts(config: "Config | None", file: Path | None) -> dict[str, bytes]:
    """Alert id -> newest revision, from a file (one document a line) or the alerts topic."""
    from shield.broker import open_broker

    found: dict[str, bytes] = {}
    revisions: dict[str, int] = {}
    if file is None:
        assert config is not None
        documents = (record.value for record in open_broker(config.broker, member="cli").read("alerts"))
    else:
        documents = (line for line in file.read_bytes().splitlines() if line.strip())
    for number, document in enumerate(documents, 1):
        try:
            head = _heads.decode(document)
        except msgspec.DecodeError as error:
            fail(f"{file or 'alerts'}:{number}: no alert document: {error}", USAGE)
        if head.shield.revision >= revisions.get(head.event.id, 0):
            revisions[head.event.id] = head.shield.revision
            found[head.event.id] = document
    return found


def _one_alert(wanted: str, alerts: Mapping[str, bytes]) -> dict[str, Any]:
    """The alert with this id or beginning; anything else ends the command with what is nearest."""
    from difflib import get_close_matches

    from shield.explanation import ids_like

    ids = ids_like(wanted, alerts)
    if not ids:
        near = get_close_matches(wanted, alerts, n=1, cutoff=0.5) or sorted(alerts)[:1]
        hint = f"; the nearest is {near[0]}" if near else "; there are no alerts"
        fail(f"there is no alert `{wanted}`{hint}", USAGE)
    if len(ids) > 1:
        more = f" and {len(ids) - CANDIDATES_MAX} more" if len(ids) > CANDIDATES_MAX else ""
        fail(f"`{wanted}` begins {len(ids)} alerts: {', '.join(ids[:CANDIDATES_MAX])}{more}", USAGE)
    document: dict[str, Any] = msgspec.json.decode(alerts[ids[0]])
    return document


# Verdicts and exceptions


def verdict(
    alert: Annotated[str | None, typer.Argument(help="The alert's id, or its beginning.", metavar="ALERT_ID")] = None,
    config: OptionalConfig = None,
    alerts: AlertsFile = None,
    disposition: Annotated[
        str | None, typer.Option(help="true_positive, false_positive, benign_expected, undetermined ...")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, in a sentence. Needed for benign_expected.")] = "",
    owner: Annotated[str | None, typer.Option(help="Who answers for it; otherwise the user of this machine.")] = None,
    expires: Annotated[
        str | None, typer.Option(help="Last day of the exceptions, 2027-02-28; otherwise in 90 days.")
    ] = None,
    only: Annotated[list[int] | None, typer.Option(help="Only this proposal, repeatable; otherwise all.")] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write the exceptions; without it they are only tried.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also where they would have hidden confirmed attacks.")
    ] = False,
    revoke: Annotated[str | None, typer.Option(help="End the exception with this id now.")] = None,
    listing: Annotated[bool, typer.Option("--list", help="List verdicts and exceptions.")] = False,
    json: AsJson = False,
) -> None:
    import time

    from shield.broker import open_broker
    from shield.models import signing_key
    from shield.verdicts import TOPIC, Decisions, decisions

    if sum((alert is not None, revoke is not None, listing)) != 1:
        fail("name an ALERT_ID, or --list, or --revoke EXCEPTION_ID", USAGE)
    loaded = _config(config, needed=True)
    assert loaded is not None
    key, now = signing_key(loaded), time.time()
    broker = open_broker(loaded.broker, member="cli")
    held: Decisions = decisions(broker.read(TOPIC), key)
    if held.refused:
        say(f"{held.refused} records of the verdicts topic do not carry our signature and do not count")
    if listing:
        _list_verdicts(held, now, json=json)
        return
    outbox: list[Out]
    if revoke is not None:
        outbox, code = [_revoked(revoke, held, key, now)], OK
    else:
        assert alert is not None
        wanted = _Wish(disposition, reason, owner or _user(), expires, frozenset(only or ()), apply, force)
        outbox, code = _judged(alert, wanted, _alerts(loaded, alerts), held, loaded, key, now, json=json)
    broker.commit(None, outbox, [])
    raise typer.Exit(code)


class _Wish(msgspec.Struct, frozen=True):
    """What was asked for on the command line."""

    disposition: str | None
    reason: str
    owner: str
    expires: str | None
    only: frozenset[int]
    apply: bool
    force: bool


def _judged(
    alert: str,
    wanted: _Wish,
    alerts: Mapping[str, bytes],
    held: "Decisions",
    config: "Config",
    key: bytes,
    now: float,
    *,
    json: bool,
) -> tuple[list["Out"], int]:
    """The records to write, and the exit code: findings where exceptions would hide confirmed attacks."""
    from detectors.behaviour.inventory import Classes
    from shield import verdicts

    disposition = _disposition(wanted.disposition)
    doc = _one_alert(alert, alerts)
    benign = disposition == "benign_expected"
    if benign and not wanted.reason.strip():
        fail("--reason: say why this is expected; the exceptions carry it", USAGE)
    if not benign and (wanted.apply or wanted.only or wanted.expires):
        fail(f"--apply, --only and --expires belong to benign_expected, not to {disposition}", USAGE)
    judged = verdicts.verdict_on(doc, disposition, reason=wanted.reason, owner=wanted.owner, now=now)
    outbox = [verdicts.out(judged, key, now)]
    if not benign:
        _say_verdict(judged, json=json)
        return outbox, OK
    classes = Classes(config.inventory)
    proposed = verdicts.proposals(
        doc,
        reason=wanted.reason,
        owner=wanted.owner,
        now=now,
        expires=_expiry(wanted.expires, now, config),
        outside=lambda name: classes.address(name) == "external",
    )
    unknown = wanted.only - set(range(1, len(proposed) + 1))
    if unknown:
        fail(f"--only {min(unknown)}: there are proposals 1 to {len(proposed)}", USAGE)
    chosen = [p.record for i, p in enumerate(proposed, 1) if not wanted.only or i in wanted.only]
    documents = (msgspec.json.decode(document) for document in alerts.values())
    would = verdicts.tried(chosen, documents, held.verdicts | {judged.alert: judged})
    confirmed = [t for t in would if t.confirmed]
    apply = wanted.apply and (not confirmed or wanted.force)
    if json:
        body = {"verdict": judged, "proposals": proposed, "would": would, "applied": apply}
        typer.echo(_encode(body).decode())
    else:
        _say_verdict(judged, json=False)
        _say_proposals(proposed, {record.id for record in chosen}, config.language)
        _say_tried(would, len(alerts), config.language)
        if wanted.apply and not apply:
            say("not applied: confirmed attacks would have been hidden or weakened; choose with --only, or --force")
        elif not wanted.apply:
            say("the verdict is written; the exceptions count only with --apply")
    if apply:
        outbox += [verdicts.out(record, key, now) for record in chosen]
        say(f"{len(chosen)} exceptions count from now on")
    return outbox, FINDINGS if confirmed and not wanted.force else OK


def _disposition(given: str | None) -> "Disposition":
    from shield.config import nearest
    from shield.verdicts import DISPOSITIONS

    if given not in DISPOSITIONS:
        stated = f"there is no `{given}`{nearest(given, list(DISPOSITIONS))}; " if given else ""
        fail(f"--disposition: {stated}there are {', '.join(DISPOSITIONS)}", USAGE)
    return given


def _expiry(given: str | None, now: float, config: "Config") -> float:
    """The end of the stated day, local time; not later than a year from now."""
    from datetime import datetime, timedelta
    from zoneinfo import ZoneInfo

    from shield.verdicts import DAY_S, EXPIRES_DAYS, EXPIRES_DAYS_MAX

    if given is None:
        return now + EXPIRES_DAYS * DAY_S
    zone = ZoneInfo(config.inventory.timezone)
    try:
        at = datetime.fromisoformat(given)
    except ValueError:
        fail(f"--expires: `{given}` is no day (for example 2027-02-28)", USAGE)
    end = (at.replace(tzinfo=zone) + timedelta(days=1) if at.tzinfo is None else at).timestamp()
    if not now < end <= now + EXPIRES_DAYS_MAX * DAY_S:
        fail(f"--expires: {given} must lie ahead, and within {EXPIRES_DAYS_MAX:.0f} days", USAGE)
    return end


def _revoked(wanted: str, held: "Decisions", key: bytes, now: float) -> "Out":
    from shield.config import nearest
    from shield.explanation import ids_like
    from shield.verdicts import out

    ids = ids_like(wanted, held.exceptions)
    if len(ids) != 1:
        what = f"begins {len(ids)} exceptions" if ids else "is no exception"
        fail(f"--revoke: `{wanted}` {what}{nearest(wanted, list(held.exceptions))}", USAGE)
    record = held.exceptions[ids[0]]
    say(f"exception {record.id} ({record.detector}, {record.entity[1]}) has ended")
    return out(msgspec.structs.replace(record, expires=now), key, now)


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no name for this user id, as in a container
        fail("--owner: say who answers for it", USAGE)


def _say_verdict(judged: "Verdict", *, json: bool) -> None:
    if json:
        typer.echo(_encode({"verdict": judged}).decode())
        return
    reason = f": {judged.reason}" if judged.reason else ""
    typer.echo(f"{judged.alert}  {judged.disposition} by {judged.owner}{reason}")


def _say_proposals(proposed: "Sequence[Proposal]", chosen: Collection[str], language: str) -> None:
    typer.secho(f"\nExceptions that would keep it quiet ({len(chosen)} of {len(proposed)} chosen)", bold=True)
    for number, one in enumerate(proposed, 1):
        record = one.record
        mark = "*" if record.id in chosen else " "
        item = f", only for {record.item}" if record.item else ""
        typer.echo(
            f"{mark}{number:>3}. {record.detector} of {record.entity[0]} {record.entity[1]}{item}, until {_day(record.expires)}"
        )
        typer.secho(f"       {one.sentence.get(language) or one.sentence['en']}", dim=True)
        for concern in one.concerns:
            typer.secho(f"       mind: {concern}", fg="yellow")


def _say_tried(would: "Sequence[Tried]", alerts: int, language: str) -> None:
    hidden = sum(t.outcome == "hidden" for t in would)
    typer.secho(
        f"\nOf {alerts} alerts so far they would have hidden {hidden} and weakened {len(would) - hidden}", bold=True
    )
    for one in would:
        title = one.title.get(language) or one.title["en"]
        judged = f", {one.disposition}" if one.disposition else ""
        text = f"  {one.outcome:<7} {one.opened[:10]}  {one.alert[:8]}  {one.level}  {title}  (risk {one.risk:.2f} -> {one.risk_left:.2f}{judged})"
        typer.secho(text, fg="red" if one.confirmed else None, bold=one.confirmed)


def _list_verdicts(held: "Decisions", now: float, *, json: bool) -> None:
    from shield.terminal import table

    records = sorted(held.exceptions.values(), key=lambda r: r.expires)
    judged = sorted(held.verdicts.values(), key=lambda v: v.time)
    if json:
        for one in (*judged, *records):
            typer.echo(_encode(one).decode())
        return
    rows = [["verdict", v.alert[:12], v.tenant, v.disposition, "", v.owner, _day(v.time), "", v.reason] for v in judged]
    for r in records:
        state = "ended" if r.expires <= now else "soon to end" if r.expires <= now + SOON_S else "in force"
        what = [r.detector, r.entity[1], r.item]
        rows.append(
            [
                "exception",
                r.id[:12],
                r.tenant,
                state,
                " ".join(filter(None, what)),
                r.owner,
                _day(r.created),
                _day(r.expires),
                r.reason,
            ]
        )
    if rows:
        table(["kind", "id", "tenant", "state", "what", "owner", "from", "until", "reason"], rows)
    else:
        say("no verdicts and no exceptions yet")


def _day(time: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(time, UTC).date().isoformat()


# How far learning is


def profiles(
    config: ConfigPath = DEFAULT_CONFIG,
    budget: Annotated[
        float | None, typer.Option(min=0.01, help="Show what this many alerts per tenant and day would have meant.")
    ] = None,
    json: AsJson = False,
) -> None:
    from detectors.behaviour import Models
    from detectors.behaviour.profiles import load_profiles
    from shield import config as configs
    from shield.broker import open_broker
    from shield.learning import last_findings, learned, newest_points, previews
    from shield.models import MODELS_KEY, TOPIC, learning_history, signing_key, train

    loaded = configs.load(config)
    known = load_profiles(loaded.profile_paths)
    fingerprints = {name: profile.fingerprint() for name, profile in known.items()}
    broker = open_broker(loaded.broker, member="cli")
    history = newest_points(learning_history(broker))
    signed = next((r.value for r in reversed(list(broker.read(TOPIC))) if r.key == MODELS_KEY), None)
    models = Models.decode(signed, signing_key(loaded)) if signed else None
    if not history:
        say("nothing is learned yet: the features topic is empty")
        return
    if budget is None:
        alerts = (msgspec.json.decode(document) for document in _alerts(loaded, None).values())
        states = learned(history, models, known, loaded.learning, last_findings(alerts))
        _show_learned(states, json=json)
    else:
        models = models or train(history, loaded, fingerprints)[0]
        _show_previews(previews(history, models, loaded, budget), budget, json=json)


def _show_learned(states: "Sequence[Learned]", *, json: bool) -> None:
    from shield.terminal import table

    if json:
        for one in states:
            typer.echo(_encode(one).decode())
        return
    columns = ("tenant", "family", "state", "days", "left", "points/day", "weighty/day", "last finding", "profiles")
    rows = []
    for one in states:
        others = sorted({state for state in one.profiles.values() if state != one.state})
        more = f" (others: {', '.join(others)})" if others else ""
        left = str(one.days_left) if one.days_left else ""
        points = [f"{one.points_per_day:g}", f"{one.weighty_per_day:g}"]
        last = one.last_finding[:16].replace("T", " ")
        rows.append(
            [one.tenant, one.family, one.state, str(one.days), left, *points, last, f"{len(one.profiles)}{more}"]
        )
    table(columns, rows, right=columns[3:7])
    if any(one.state == "untrained" for one in states):
        say("untrained: enough days, but not in the models in use, or changed since: run `shield train`")


def _show_previews(found: "Sequence[Preview]", budget: float, *, json: bool) -> None:
    from shield.terminal import table

    if json:
        for one in found:
            typer.echo(_encode(one).decode())
        return
    columns = (
        "tenant",
        "days",
        "alerts/day now",
        "threshold now",
        f"alerts/day at {budget:g}",
        f"threshold at {budget:g}",
    )
    rows = []
    for one in found:
        numbers = (one.alerts_per_day_now, one.threshold_now, one.alerts_per_day, one.threshold)
        rows.append([one.tenant, str(one.days), *(f"{number:g}" for number in numbers)])
    table(columns, rows, right=columns[1:])
    say(f"set alerts.budget_per_day to {budget:g} and run `shield train` to use it; alerts of rules come on top")
