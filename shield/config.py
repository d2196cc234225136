"""The configuration: typed, checked as a whole before anything starts, every fault with file, line and nearest valid name."""

import difflib
import importlib
import importlib.util
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_origin
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import re2
import yaml

from connectors.declared import SUFFIXES as DECLARED
from connectors.inlet import SourceConfig
from connectors.parse import UnknownParser, load_parser
from detectors.behaviour import Inventory, Learning
from detectors.behaviour.inventory import faults_of
from shield.broker import EmbeddedConfig, KafkaConfig, Limits
from shield.guidance import Guidance, Link, PlaybookError, load_playbook
from shield.sinks import SinkConfig

ROOT = Path(__file__).resolve().parent.parent  # where the packages and the bundled `rules/` lie
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class Fault(msgspec.Struct, frozen=True):
    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


class ConfigError(ValueError):
    """All faults of a configuration at once."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


class Alerting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When and how alerts are opened. Defaults follow the measured design in docs/architecture.md."""

    direct_levels: tuple[str, ...] = ("high", "critical")  # rules of these levels alert at once, without learning
    budget_per_day: float = 5.0  # alerts per tenant and day that learned findings may open
    fold_window_s: float = 3600.0  # later hits of a rule on the same entity update the alert
    merge_s: float = 600.0  # further evidence on a shared entity joins the alert
    grow_s: float = 21_600.0  # the same family strengthening raises the alert
    quiet_s: float = 259_200.0  # no new alert on the entities without escalation
    hub_links_max: int = 40  # an entity linked to more others never joins findings together


class Models(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Signing key of models and calibration; never in the file itself."""

    key_env: str = "SHIELD_MODELS_KEY"
    key_file: str | None = None  # made with mode 0600 beside an embedded broker when neither is there


class MetricsPorts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where each role serves /metrics, /healthz and /readyz; 0 switches a role's server off."""

    host: str = "127.0.0.1"
    ingest: int = 9464
    detect: int = 9465
    deliver: int = 9466


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of `shield.yml`."""

    broker: EmbeddedConfig | KafkaConfig = EmbeddedConfig()
    sources: tuple[SourceConfig, ...] = ()
    rules: tuple[str, ...] = ()  # more rule files or folders beside the bundled ones
    profiles: tuple[str, ...] = ()  # more behaviour profiles
    bundled_rules: bool = True
    rules_cache: str | None = (
        None  # a folder for understood rules: thousands of them start in a second instead of eight
    )
    rules_reload_s: float = 5.0  # how often rule files are looked at for changes; 0: only on SIGHUP or POST /-/reload
    placeholders: dict[str, list[str]] = {}  # values of %name% in rules with the modifier `expand`
    playbook: str | None = None  # a playbook file; its entries replace those of rules/playbook.yml
    links: tuple[Link, ...] = ()  # shown with every alert, for example to the SIEM's search
    inventory: Inventory = Inventory()  # networks, names and calendar: here, or the path of a file that holds them
    learning: Learning = Learning()
    learn_until: str | None = None  # events before this time (ISO 8601) only teach
    alerts: Alerting = Alerting()
    models: Models = Models()
    batch: Limits = Limits()
    silent_after_s: float = 30.0  # a source silent this long (arrival time) no longer holds a tenant's watermark back
    pending_records_max: int = 100_000  # packs of facts per tenant that wait for their minute to close
    sinks: tuple[SinkConfig, ...] = ()
    metrics: MetricsPorts = MetricsPorts()
    language: str = "en"  # of the `reason` sentence; both languages are always in the alert

    @property
    def rule_paths(self) -> list[Path]:
        return ([ROOT / "rules" / "sigma"] if self.bundled_rules else []) + [Path(p) for p in self.rules]

    @property
    def profile_paths(self) -> list[Path]:
        return ([ROOT / "rules" / "profiles"] if self.bundled_rules else []) + [Path(p) for p in self.profiles]

    def guidance(self, benign: Mapping[str, Mapping[str, Sequence[str]]]) -> Guidance:
        """What alerts show besides their reasons. Raises PlaybookError."""
        more = [Path(self.playbook)] if self.playbook else []
        return Guidance(load_playbook([ROOT / "rules" / "playbook.yml", *more]), benign, self.links)


def component(package: str, name: str) -> ModuleType:
    """The module behind `use: name`: `<package>.<name>`, or a dotted third-party module. Raises LookupError with advice."""
    dotted = name if "." in name else f"{package}.{name}"
    try:
        found = importlib.util.find_spec(dotted)
    except ModuleNotFoundError:
        found = None
    if found is None or not hasattr(module := importlib.import_module(dotted), "Config"):
        folder = Path(str(importlib.import_module(package).__file__)).parent
        offered = sorted(
            p.stem for p in folder.glob("*.py") if re.search(r"^class Config\b", p.read_text(), re.MULTILINE)
        )
        raise LookupError(f"unknown `use: {name}`{nearest(name, offered)}; there are {', '.join(offered)}")
    return module


def nearest(name: str, offered: list[str]) -> str:
    match = difflib.get_close_matches(name, offered, n=1)
    return f", did you mean `{match[0]}`?" if match else ""


def load(path: Path) -> Config:
    """Read and check a configuration file. Raises ConfigError with every fault, or OSError."""
    return parse(path.read_text(encoding="utf-8"), str(path), base=path.resolve().parent)


def parse(text: str, name: str, base: Path | None = None, environment: dict[str, str] | None = None) -> Config:
    faults: list[Fault] = []
    environment = dict(os.environ) if environment is None else environment
    raw, fault = _read(text, name, environment, faults)
    raw = {} if raw is None else raw
    if not isinstance(raw, dict):
        raise ConfigError([Fault(name, 1, "a configuration is a mapping: `broker:`, `sources:`, `sinks:` ...")])
    values = dict(raw)
    broker_type = (
        KafkaConfig if isinstance(raw.get("broker"), dict) and raw["broker"].get("use") == "kafka" else EmbeddedConfig
    )
    if isinstance(raw.get("broker"), dict) and raw["broker"].get("use", "embedded") not in {"embedded", "kafka"}:
        fault(("broker", "use"), f"unknown broker `{raw['broker']['use']}`; there are embedded, kafka")
    if "broker" in values:
        values["broker"] = _struct(_without_tag(values["broker"], broker_type), broker_type, ("broker",), fault)
    if isinstance(values.get("inventory"), str):
        values["inventory"] = _inventory_file(values["inventory"], base, environment, fault, faults)
    elif isinstance(values.get("inventory"), dict):
        values["inventory"] = _inventory(values["inventory"], ("inventory",), base, fault)
    if faults and values.get("inventory", 0) is None:
        del values["inventory"]  # its faults are told already
    for key, package in (("sources", "connectors"), ("sinks", "shield.sinks")):
        if isinstance(values.get(key), list):
            values[key] = tuple(_component(package, v, (key, i), fault) for i, v in enumerate(values[key]))
    built: Config | None = _struct(values, Config, (), fault)
    if not faults and built is not None:
        built = _relative_to(built, base) if base else built
        _check_meaning(built, fault)
    if faults or built is None:
        raise ConfigError(sorted(faults, key=lambda f: f.line))
    return built


def load_inventory(path: Path) -> Inventory:
    """Read and check an inventory file. Raises ConfigError with every fault, or OSError."""
    faults: list[Fault] = []
    built = _inventory_text(
        path.read_text(encoding="utf-8"), str(path), path.resolve().parent, dict(os.environ), faults
    )
    if faults or built is None:
        raise ConfigError(sorted(faults, key=lambda f: f.line))
    return built


def _inventory_file(
    given: str, base: Path | None, env: dict[str, str], fault: Callable[..., None], faults: list[Fault]
) -> Inventory | None:
    path = (base or Path()) / Path(given).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fault(("inventory",), f"{path}: {getattr(error, 'strerror', None) or 'not a text in UTF-8'}")
        return None
    return _inventory_text(text, str(path), path.resolve().parent, env, faults)


def _inventory_text(text: str, name: str, base: Path, env: dict[str, str], faults: list[Fault]) -> Inventory | None:
    raw, fault = _read(text, name, env, faults)
    if raw is not None and not isinstance(raw, dict):
        faults.append(Fault(name, 1, "an inventory is a mapping: `networks:`, `accounts:`, `holidays:` ..."))
        return None
    return _inventory(raw or {}, (), base, fault)


def _inventory(
    value: dict[str, Any], at: tuple[Any, ...], base: Path | None, fault: Callable[..., None]
) -> Inventory | None:
    built: Inventory | None = _struct(value, Inventory, at, fault)
    if built is None:
        return None
    if built.geo and base:
        built = msgspec.structs.replace(built, geo=str(base / Path(built.geo).expanduser()))
    for place, message in faults_of(built):
        fault((*at, *place), message)
    return built


def _read(
    text: str, name: str, env: dict[str, str], faults: list[Fault]
) -> tuple[Any, Callable[[tuple[Any, ...], str], None]]:
    """A YAML text as plain values, and how to report a fault at one of its places. Raises ConfigError if it is no YAML."""
    lines: dict[tuple[Any, ...], int] = {(): 1}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise ConfigError([Fault(name, mark.line + 1 if mark else 1, f"not valid YAML: {error.problem}")]) from None

    def fault(at: tuple[Any, ...], message: str) -> None:
        while at not in lines:
            at = at[:-1]
        faults.append(Fault(name, lines[at], message))

    return (_plain(node, (), lines, fault, env) if node else None), fault


def _plain(
    node: yaml.Node,
    at: tuple[Any, ...],
    lines: dict[tuple[Any, ...], int],
    fault: Callable[..., None],
    env: dict[str, str],
) -> Any:
    """YAML nodes to plain values; remembers lines, refuses duplicate keys, fills in variables on string leaves."""
    lines[at] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            if key in result:
                lines[*at, key] = key_node.start_mark.line + 1
                fault((*at, key), f"`{key}` stands twice here")
            result[key] = _plain(value_node, (*at, key), lines, fault, env)
            lines[*at, key] = key_node.start_mark.line + 1
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_plain(child, (*at, i), lines, fault, env) for i, child in enumerate(node.value)]
    if node.tag.endswith(":timestamp"):  # stays a text: what is no day of the calendar is a fault at its place
        return node.value
    value = yaml.SafeLoader("").construct_object(node)
    return _VARIABLE.sub(lambda m: _variable(m, at, fault, env), value) if isinstance(value, str) else value


def _variable(match: re.Match[str], at: tuple[Any, ...], fault: Callable[..., None], env: dict[str, str]) -> str:
    value = env.get(match[1], match[2])
    if value is None:
        fault(at, f"the environment has no variable {match[1]}")
    return value or ""


def _without_tag(value: Any, kind: type[msgspec.Struct]) -> Any:
    if isinstance(value, dict) and kind.__struct_config__.tag is not None:
        return {k: v for k, v in value.items() if k != kind.__struct_config__.tag_field}
    return value


def _component(package: str, value: Any, at: tuple[Any, ...], fault: Callable[..., None]) -> Any:
    if not isinstance(value, dict) or not isinstance(value.get("use"), str):
        fault(at, "an entry needs `use: NAME` and its options")
        return None
    try:
        kind = component(package, value["use"]).Config
    except LookupError as error:
        fault((*at, "use"), str(error))
        return None
    return _struct({k: v for k, v in value.items() if k != "use"}, kind, at, fault)


def _struct(value: Any, kind: type[msgspec.Struct], at: tuple[Any, ...], fault: Callable[..., None]) -> Any:
    """Check a mapping against a Struct field by field, so that all faults come at once."""
    where = ".".join(map(str, at)) or "the configuration"
    if not isinstance(value, dict):
        fault(at, f"{where}: a mapping is expected, found {type(value).__name__}")
        return None
    fields = {f.encode_name: f for f in msgspec.structs.fields(kind)}
    for key in value.keys() - fields.keys():
        fault((*at, key), f"unknown key `{key}` in {where}{nearest(key, list(fields))}")
    for key, field in fields.items():
        if field.required and key not in value:
            fault(at, f"{where} lacks `{key}`")
    arguments, whole = {}, True
    for key in value.keys() & fields.keys():
        checked = _value(value[key], fields[key].type, (*at, key), fault)
        whole &= checked is not None or value[key] is None
        arguments[fields[key].name] = checked
    if not whole or any(f.required and f.name not in arguments for f in fields.values()):
        return None
    try:
        return kind(**arguments)
    except (TypeError, ValueError) as error:
        fault(at, f"{where}: {error}")
        return None


def _value(value: Any, kind: Any, at: tuple[Any, ...], fault: Callable[..., None]) -> Any:
    if isinstance(value, msgspec.Struct) or (
        isinstance(value, tuple) and at[0] in {"sources", "sinks"} and len(at) == 1
    ):
        return value  # built already
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _struct(value, kind, at, fault)
    inner = get_args(kind)
    if (
        get_origin(kind) in {list, tuple}
        and inner
        and isinstance(inner[0], type)
        and issubclass(inner[0], msgspec.Struct)
    ):
        if not isinstance(value, list):
            fault(at, f"{'.'.join(map(str, at))}: a list is expected")
            return None
        items = [_struct(v, inner[0], (*at, i), fault) for i, v in enumerate(value)]
        return tuple(items) if get_origin(kind) is tuple else items
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        fault(at, f"{'.'.join(map(str, at))}: {error}")
        return None


def _relative_to(config: Config, base: Path) -> Config:
    """Relative paths are read from the folder of the file that names them."""

    def resolve(path: str) -> str:
        return str(base / Path(path).expanduser())

    changes: dict[str, Any] = {
        "rules": tuple(map(resolve, config.rules)),
        "profiles": tuple(map(resolve, config.profiles)),
    }
    if isinstance(config.broker, EmbeddedConfig):
        changes["broker"] = msgspec.structs.replace(config.broker, path=resolve(str(config.broker.path)))
    for key in ("playbook", "rules_cache"):
        if path := getattr(config, key):
            changes[key] = resolve(path)
    if config.models.key_file:
        changes["models"] = msgspec.structs.replace(config.models, key_file=resolve(config.models.key_file))
    for key in ("sources", "sinks"):
        changes[key] = tuple(_files_resolved(part, resolve) for part in getattr(config, key))
    return msgspec.structs.replace(config, **changes)


def _files_resolved(part: Any, resolve: Callable[[str], str]) -> Any:
    """A source or sink with its file options made absolute: `path`, a declared parser, and everything that ends in `_file`."""
    changes: dict[str, Any] = {}
    for name in part.__struct_fields__:
        value = getattr(part, name)
        if (
            isinstance(value, str)
            and value not in {"", "-"}
            and (name == "path" or name.endswith("_file") or (name == "parser" and value.endswith(DECLARED)))
        ):
            changes[name] = resolve(value)
        elif name == "tokens":
            changes[name] = tuple(_files_resolved(token, resolve) for token in value)
    return msgspec.structs.replace(part, **changes) if changes else part


def _check_meaning(config: Config, fault: Callable[..., None]) -> None:
    seen: set[tuple[str, str]] = set()
    for i, source in enumerate(config.sources):
        if (source.tenant, source.source) in seen:
            fault(("sources", i, "source"), f"source `{source.source}` of tenant `{source.tenant}` stands twice")
        seen.add((source.tenant, source.source))
        try:
            load_parser(source.parser) if source.parser != "auto" else None
        except UnknownParser as error:
            fault(("sources", i, "parser"), str(error))
        try:
            re2.compile(source.starts)
        except re2.error as error:
            fault(("sources", i, "starts"), f"`{source.starts}` is no expression: {error}")
        try:
            ZoneInfo(source.timezone)
        except (ZoneInfoNotFoundError, ValueError):
            fault(("sources", i, "timezone"), f"unknown time zone `{source.timezone}` (for example Europe/Berlin)")
    names = [sink.name for sink in config.sinks]
    for i, name in enumerate(names):
        if name in names[:i]:
            fault(("sinks", i, "name"), f"two sinks are named `{name}`")
    try:
        config.guidance({})
    except PlaybookError as error:
        fault(("playbook",), str(error))
    for key in ("rules", "profiles"):
        for i, path in enumerate(getattr(config, key)):
            if not Path(path).exists():
                fault((key, i), f"there is no {path}")
    if config.learn_until is not None:
        try:
            instant(config.learn_until)
        except ValueError:
            fault(("learn_until",), f"`{config.learn_until}` is no ISO 8601 time")


def instant(text: str) -> float:
    """Seconds since the epoch of an ISO 8601 time (UTC if it names no zone)."""
    from datetime import UTC, datetime

    at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def module_of(part: msgspec.Struct) -> ModuleType:
    """The module that a source's or sink's Config came from; it holds the class to build."""
    return importlib.import_module(type(part).__module__)


def described(kind: type[msgspec.Struct], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """(key, type, default) of every option of a Struct, for the generated documentation."""
    for field in msgspec.structs.fields(kind):
        inner = field.type
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            yield from described(inner, f"{prefix}{field.encode_name}.")
            continue
        default = (
            "required" if field.required else repr(field.default if field.default is not msgspec.NODEFAULT else [])
        )
        name = getattr(inner, "__name__", str(inner)) if not get_args(inner) else str(inner)
        yield prefix + field.encode_name, re.sub(r"\b(typing|builtins)\.", "", name), default
