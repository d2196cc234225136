"""Inventory: classes of names and networks, the local calendar, countries from a file, and every fault with its line."""

import ipaddress
import itertools
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.events import Event
from detectors.behaviour.geo import GeoError, flattened, open_countries
from detectors.behaviour.inventory import Accounts, Classes, Hosts, Inventory, Network, faults_of
from detectors.behaviour.survey import Survey, written
from shield.config import ConfigError, load, load_inventory

BERLIN = ZoneInfo("Europe/Berlin")


def at(year: int, month: int, day: int, hour: int = 12, minute: int = 0, fold: int = 0) -> float:
    return datetime(year, month, day, hour, minute, tzinfo=BERLIN, fold=fold).timestamp()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("anna.berg", "person"),
        ("STADT\\Anna.Berg", "person"),
        ("PC-0117$", "machine"),
        ("Netzwerkdienst", "machine"),
        ("svc-backup", "service"),
        ("svc-backup@stadt.example", "service"),
        ("STADT\\adm-berg", "admin"),
        ("berg-adm", "admin"),
        ("administrator", "admin"),
    ],
)
def test_accounts_by_usual_names(name: str, expected: str) -> None:
    assert Classes(Inventory()).of("user", name) == expected


def test_exact_names_decide_before_patterns_whatever_the_class() -> None:
    accounts = Accounts(service=("svc*", "STADT\\fachverfahren"), person=("svcha.meier",), admin=("*-t?",))
    classes = Classes(Inventory(accounts=accounts))
    found = [classes.of("user", n) for n in ("svcha.meier", "Fachverfahren", "svc1", "berg-t0", "berg-t10", "adm-berg")]
    assert found == ["person", "service", "service", "admin", "person", "person"]


@pytest.mark.parametrize(
    ("code", "known"), [("DE-NW", 1), ("AT-9", 1), ("LU", 1), ("", 1), ("DE-XX", 0), ("XX", 0), ("AT-77", 0)]
)
def test_holidays_of_states_and_countries(code: str, known: int) -> None:
    faults = [message for place, message in faults_of(Inventory(holidays=code)) if place == ("holidays",)]
    assert len(faults) == 1 - known


def test_names_are_not_read_as_expressions() -> None:
    classes = Classes(Inventory(accounts=Accounts(admin=("a.b+*", "[x]*"))))
    assert [classes.of("user", n) for n in ("a.b+1", "aXbb1", "[x]y", "xy")] == ["admin", "person", "admin", "person"]


def test_hosts_by_name_or_by_their_address() -> None:
    inventory = Inventory(hosts=Hosts(client=("web-terminal-*",)), server_networks=("10.2.0.0/24",))
    classes = Classes(inventory)
    names = ("SRV-FILE.stadt.example", "pc-0117", "web-terminal-3", "10.2.0.9", "10.1.0.9")
    assert [classes.of("host", n) for n in names] == ["server", "client", "client", "server", "client"]


def test_the_narrowest_network_decides_and_gives_the_name() -> None:
    networks = (
        Network(network="10.20.0.0/16", name="town hall"),
        Network(network="10.20.9.0/24", name="data centre", role="server"),
        Network(network="10.20.9.128/25", name="partner", role="external"),
        Network(network="2001:db8:20::/48", name="schools"),
    )
    classes = Classes(Inventory(networks=networks, internal=("10.0.0.0/8", "10.20.9.0/28")))
    addresses = ("10.20.1.1", "10.20.9.5", "::ffff:10.20.9.200", "2001:db8:20::1", "10.9.9.9", "203.0.113.9", "pc-1")
    assert [classes.address(a) for a in addresses] == [
        "internal",
        "server",
        "external",
        "internal",
        "internal",
        "external",
        "",
    ]
    assert [classes.network(a) for a in addresses[:5]] == ["town hall", "data centre", "partner", "schools", ""]
    assert classes.of("address", "10.20.9.5") == "server"
    assert classes.of("address", "pc-1") == "any"


def test_days_are_free_by_state_and_by_own_closing_days() -> None:
    corpus_christi, saturday, unity_saturday, closing = at(2026, 6, 4), at(2026, 6, 6), at(2026, 10, 3), at(2026, 5, 15)
    west = Classes(Inventory(holidays="DE-NW", closing_days=("2026-05-15", "12-24")))
    berlin = Classes(Inventory(holidays="DE-BE"))
    none = Classes(Inventory(holidays="", closing_days=()))
    assert [west.day_type(t) for t in (corpus_christi, saturday, unity_saturday, closing)] == [
        "free",
        "saturday",
        "free",
        "free",
    ]
    assert [berlin.day_type(t) for t in (corpus_christi, closing)] == ["workday", "workday"]
    assert none.day_type(unity_saturday) == "saturday"
    assert {west.day_type(at(year, 12, 24)) for year in (2025, 2026, 2027)} == {"free"}
    assert none.day_type(at(2026, 6, 7)) == "free"


def test_local_hours_and_days_follow_the_clock_change() -> None:
    classes = Classes(Inventory())
    before, after = at(2026, 3, 29, 1, 59), at(2026, 3, 29, 3, 0)
    assert after - before == 60
    assert (classes.local_hour(before), classes.local_hour(after)) == (1, 3)
    first, again = at(2026, 10, 25, 2, 30), at(2026, 10, 25, 2, 30, fold=1)
    assert again - first == 3600
    assert classes.local_hour(first) == classes.local_hour(again) == 2
    midnight = at(2026, 7, 1, 0, 0)
    assert classes.local_day(midnight) - classes.local_day(midnight - 1) == 1
    assert classes.local_day(at(1970, 1, 2)) == 1


@settings(deadline=None)
@given(st.floats(min_value=0, max_value=4e9), st.sampled_from(["Europe/Berlin", "Asia/Kathmandu", "UTC"]))
def test_the_remembered_calendar_is_the_real_one(time: float, zone: str) -> None:
    classes = Classes(Inventory(timezone=zone, holidays=""))
    local = datetime.fromtimestamp(time, ZoneInfo(zone))
    assert classes.local_hour(time) == local.hour
    assert classes.local_day(time) == local.date().toordinal() - 719_163


@pytest.mark.parametrize("time", [-1e11, 1e11, 9e15, -9e15])
def test_a_wild_clock_is_no_error(time: float) -> None:
    classes = Classes(Inventory())
    assert 0 <= classes.local_hour(time) <= 23
    assert classes.day_type(time) in {"workday", "saturday", "free"}


GEO = """\
# network,country
198.51.100.0/24,NL
198.51.100.128/26,fr
203.0.113.0/24,ZZ
2001:db8:1::/48,AT
"""


def test_without_a_file_every_country_is_empty() -> None:
    assert Classes(Inventory()).country("198.51.100.7") == ""


def test_countries_from_networks_and_from_ranges(tmp_path: Path) -> None:
    networks = tmp_path / "networks.csv"
    networks.write_text(GEO, encoding="utf-8")
    classes = Classes(Inventory(geo=str(networks), internal=("198.51.100.64/26",)))
    addresses = ("198.51.100.7", "198.51.100.130", "198.51.100.192", "198.51.100.70", "203.0.113.1", "2001:db8:1::9")
    assert [classes.country(a) for a in addresses] == ["NL", "FR", "NL", "", "", "AT"]
    assert classes.country("::ffff:198.51.100.7") == "NL"
    assert classes.country("pc-1") == ""

    ranges = tmp_path / "ranges.csv"
    ranges.write_text('"start_ip";"end_ip";"name";"country"\n"192.0.2.0";"192.0.2.99";"x";"US"\n', encoding="utf-8")
    numbers = tmp_path / "numbers.csv"
    numbers.write_text('"3221225984","3221226083","US","United States"\n', encoding="utf-8")
    for path in (ranges, numbers):
        assert [open_countries(path).country(a) for a in ("192.0.2.99", "192.0.2.100")] == ["US", ""]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("198.51.100.0/24,NL\n198.51.100.0/33,NL\n", "geo.csv:2:"),
        ("198.51.100.0/24,Netherlands\n", "geo.csv:1: `Netherlands` is no country code"),
        ("192.0.2.9,192.0.2.1,NL\n", "geo.csv:1: 192.0.2.1 does not follow 192.0.2.9"),
        ("192.0.2.9,2001:db8::1,NL\n", "geo.csv:1:"),
        ("network,country\n198.51.100.0/24\n", "geo.csv:2: 1 columns"),
        ("only\n", "geo.csv:1: `network,country`"),
    ],
)
def test_a_wrong_file_of_countries_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "geo.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(GeoError) as caught:
        open_countries(path)
    assert message in str(caught.value)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30), st.sampled_from("ABCD")), max_size=12))
def test_nested_ranges_are_flattened_to_the_narrowest(given_: list[tuple[int, int, str]]) -> None:
    # networks either hold one another or do not touch: cut to powers of two
    nested = {(start & -size, (start & -size) + size - 1): c for start, exp, c in given_ for size in (1 << exp % 6,)}
    made = list(flattened((first, last, country) for (first, last), country in nested.items()))
    assert all(a[1] < b[0] for a, b in itertools.pairwise(made))
    for number in range(100):
        holding = [(last - first, c) for (first, last), c in nested.items() if first <= number <= last]
        found = [c for first, last, c in made if first <= number <= last]
        assert found == ([min(holding)[1]] if holding else [])


def test_countries_from_a_maxmind_database(tmp_path: Path) -> None:
    path = tmp_path / "country.mmdb"
    path.write_bytes(maxmind({"198.51.100.0/24": "NL", "203.0.113.128/25": "CH"}))
    classes = Classes(Inventory(geo=str(path)))
    addresses = ("198.51.100.7", "203.0.113.200", "203.0.113.1", "2001:db8::1", "10.1.1.1")
    assert [classes.country(a) for a in addresses] == ["NL", "CH", "", "", ""]
    broken = tmp_path / "broken.mmdb"
    broken.write_bytes(b"no database")
    with pytest.raises(GeoError, match=r"broken\.mmdb: no MaxMind DB"):
        open_countries(broken)


def maxmind(networks: dict[str, str]) -> bytes:
    """A small MaxMind DB for IPv4: a binary tree of 24-bit records, then maps {country: {iso_code: ..}}."""
    tree: list[list[int | str | None]] = [[None, None]]
    for text, country in networks.items():
        network = ipaddress.IPv4Network(text)
        bits = f"{int(network.network_address):032b}"[: network.prefixlen]
        node = 0
        for bit in bits[:-1]:
            following = tree[node][int(bit)]
            if not isinstance(following, int):
                tree.append([None, None])
                following = tree[node][int(bit)] = len(tree) - 1
            node = following
        tree[node][int(bits[-1])] = country

    def text_of(value: str) -> bytes:
        return bytes([0x40 | len(value)]) + value.encode()

    def map_of(pairs: dict[bytes, bytes]) -> bytes:
        return bytes([0xE0 | len(pairs)]) + b"".join(k + v for k, v in pairs.items())

    data, places = b"", dict[str, int]()
    for country in networks.values():
        places[country] = len(data)
        data += map_of({text_of("country"): map_of({text_of("iso_code"): text_of(country)})})

    def record(value: int | str | None) -> int:
        if value is None:
            return len(tree)
        return value if isinstance(value, int) else len(tree) + 16 + places[value]

    nodes = b"".join(record(side).to_bytes(3, "big") for node in tree for side in node)
    unsigned = {"node_count": len(tree), "record_size": 24, "ip_version": 4, "binary_format_major_version": 2}
    header = {text_of(k): b"\xc4" + v.to_bytes(4, "big") for k, v in unsigned.items() if k == "node_count"}
    header |= {text_of(k): b"\xa2" + v.to_bytes(2, "big") for k, v in unsigned.items() if k != "node_count"}
    header[text_of("binary_format_minor_version")] = b"\xa2\x00\x00"
    header[text_of("build_epoch")] = b"\x08\x02" + (1_700_000_000).to_bytes(8, "big")
    header[text_of("database_type")] = text_of("Test-Country")
    header[text_of("description")] = map_of({text_of("en"): text_of("test")})
    header[text_of("languages")] = b"\x01\x04" + text_of("en")
    return nodes + bytes(16) + data + b"\xab\xcd\xefMaxMind.com" + map_of(header)


def test_a_configuration_names_the_file_and_faults_stand_at_their_lines(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.yml"
    inventory.write_text(
        "internal: [10.0.0.0/8, 10.0.0.1/8]\n"
        "networks:\n"
        "  - {network: 10.1.0.0/16, name: hall, roll: server}\n"
        "  - {network: 10.2.0.0/33, name: cellar}\n"
        "scanners: [10.9.0.0/24]\n"
        "acounts: {}\n"
        "hosts: {server: ['*.stadt.example']}\n"
        "timezone: Europe/Berlinn\n"
        "holidays: DE-NRW\n"
        "closing_days: [2026-02-30, 24.12.]\n"
        "geo: nothing.csv\n",
        encoding="utf-8",
    )
    config = tmp_path / "shield.yml"
    config.write_text("language: de\ninventory: inventory.yml\nsources: 7\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(config)
    text = str(caught.value)
    assert f"{inventory}:3: unknown key `roll` in networks.0, did you mean `role`?" in text
    assert f"{inventory}:6: unknown key `acounts` in the configuration, did you mean `accounts`?" in text
    assert f"{config}:3: sources:" in text

    lines = inventory.read_text(encoding="utf-8").replace("roll", "role").replace("acounts", "accounts")
    inventory.write_text(lines, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_inventory(inventory)
    text = str(caught.value)
    for line, part in (
        (1, "10.0.0.1/8 has host bits set"),
        (4, "10.2.0.0/33"),
        (5, "`10.9.0.0/24` is no address"),
        (7, "`*.stadt.example` would be every name"),
        (8, "unknown time zone"),
        (9, "DE-NW"),
        (10, "`2026-02-30` is no day"),
        (10, "`24.12.` is no day"),
        (11, "nothing.csv"),
    ):
        assert any(f"{inventory}:{line}: " in fault and part in fault for fault in text.splitlines()), (line, part)


def test_an_inventory_in_its_file_or_inline_is_the_same(tmp_path: Path) -> None:
    body = "accounts: {admin: [chef]}\nclosing_days: [2026-05-15]\ngeo: geo.csv\n"
    (tmp_path / "geo.csv").write_text("198.51.100.0/24,NL\n", encoding="utf-8")
    (tmp_path / "inventory.yml").write_text(body, encoding="utf-8")
    (tmp_path / "a.yml").write_text("inventory: inventory.yml\n", encoding="utf-8")
    (tmp_path / "b.yml").write_text("inventory:\n" + "".join(f"  {line}\n" for line in body.splitlines()))
    one, other = load(tmp_path / "a.yml").inventory, load(tmp_path / "b.yml").inventory
    assert one == other
    assert Classes(one).country("198.51.100.1") == "NL"
    (tmp_path / "c.yml").write_text("language: de\ninventory: lost.yml\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"c\.yml:2: .*lost\.yml: No such file"):
        load(tmp_path / "c.yml")


MONDAY = int(at(2026, 6, 1, 0))  # Corpus Christi is the Thursday: free in NW and others, not in Berlin
SERVERS = ("10.5.0.10", "10.5.0.11", "10.5.0.12")


def town() -> list[Event]:
    """A fortnight of a small town: twelve people, three servers, services at night, a scanner, an administrator."""

    def event(time: int, category: str, **more: Any) -> Event:
        return Event(time, "windows", "windows.security", (category,), event_outcome="success", **more)

    def logon(time: int, user: str, host: str, kind: str, source: str) -> Event:
        fields = {"winlog.logon.type": kind}
        return event(time, "authentication", user_name=user, host_name=host, source_ip=source, fields=fields)

    made = []
    for day in range(14):
        midnight = MONDAY + day * 86_400
        free = day % 7 >= 5 or day == 3
        for number in range(0 if free else 12):
            person, address = f"person{number}", f"10.5.1.{20 + number}"
            made.append(logon(midnight + 8 * 3600, f"TOWN\\{person}", f"web{number}.town.example", "Interactive", "-"))
            for server, target in enumerate(SERVERS):
                made.append(logon(midnight + 9 * 3600, person, f"nas{server}", "Network", address))
                flow = {"source_ip": address, "destination_ip": target, "destination_port": 445, "destination_bytes": 9}
                made.append(event(midnight + 9 * 3600, "network", **flow))
        for hour in range(24):
            names = ("x-sync", "x-archive", "x-index", "lonely")
            made += [logon(midnight + hour * 3600, name, "nas0", "Network", "10.5.0.40") for name in names]
        made.append(logon(midnight + 3600, "PC-1$", "nas0", "Network", f"192.0.2.{day % 3 + 1}"))
        flows = [
            {"destination_ip": f"10.5.0.{n}", "destination_port": p, "destination_bytes": 0}
            for n in range(99)
            for p in range(4)
        ]
        made += [event(midnight + 7200, "network", source_ip="10.5.0.99", **flow) for flow in flows]
    made += [logon(MONDAY + 40_000 + n, "chief", f"nas{n}", "RemoteInteractive", "10.5.1.20") for n in range(3)]
    return made


def test_a_survey_proposes_what_the_logs_show_and_its_file_can_be_used(tmp_path: Path) -> None:
    survey = Survey(Inventory(), ["UTC", "America/New_York"])
    survey.add(town())
    found = survey.proposal()
    assert list(found.server_networks) == ["10.5.0.0/24"]
    assert list(found.client_networks) == ["10.5.1.0/24"]
    assert set(found.servers) == set(SERVERS)
    assert set(found.service) == {"x-*", "lonely"}
    assert set(found.admin) == {"chief"}
    assert set(found.server_names) == {"nas*"}
    assert set(found.client_names) == {"web*"}
    assert set(found.scanners) == {"10.5.0.99"}
    assert list(found.own_networks) == ["192.0.2.0/24"]
    assert found.timezone == "Europe/Berlin"
    assert "DE-NW" in found.holidays
    assert "DE-BE" not in found.holidays
    assert found.quiet_days == {}

    path = tmp_path / "inventory.yml"
    path.write_text(written(found, Inventory()), encoding="utf-8")
    used = Classes(load_inventory(path))
    assert [used.of("user", n) for n in ("x-new", "lonely", "person1", "chief")] == [
        "service",
        "service",
        "person",
        "person",
    ]
    assert [used.of("host", n) for n in ("nas7", "web3", "srv1")] == ["server", "client", "server"]
    assert used.address("192.0.2.77") == "internal"
    assert used.address("10.5.0.11") == "server"
    assert used.scanners == frozenset(), "an attacker may have been scanning: only a person excepts an address"


def test_a_survey_of_a_known_town_proposes_nothing_new() -> None:
    survey = Survey(Inventory())
    survey.add(e for e in town() if e.user_name is None or "person" in e.user_name)
    found = survey.proposal()
    assert (found.service, found.admin, found.own_networks) == ({}, {}, {})
    assert "accounts: the usual names fit" in written(found, Inventory())
    assert written(Survey(Inventory()).proposal(), Inventory()).startswith("# no events")
