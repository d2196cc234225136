"""The outside of every town: address ranges with a country each, web sites, and who knocks on the firewall.

Mass addresses come from 198.18.0.0/15, which is reserved for benchmarks (RFC 2544) and belongs to nobody.
"""

from random import Random

import msgspec

# One range of 4096 addresses each, from 198.18.0.0 on: country and kind of network.
RANGES = (
    "DE home", "DE home", "DE home", "DE home", "DE mobile", "DE mobile", "AT home", "NL home", "FR home", "PL home",
    "IT home", "ES home", "TR home", "GR home", "GB home", "CZ home", "US hosting", "US hosting", "IE hosting",
    "NL hosting", "DE hosting", "DE hosting", "FR hosting", "RU hosting", "RO hosting", "CN home", "BR home", "VN home",
    "UA home", "IN home", "ID home", "SE hosting",
)  # fmt: skip
ADDRESSES_PER_RANGE = 4096
TRAVEL = ("AT home", "NL home", "FR home", "PL home", "IT home", "ES home", "GR home", "GB home", "CZ home")
SUSPECT = (
    "NL hosting",
    "RU hosting",
    "RO hosting",
    "US hosting",
    "BR home",
    "VN home",
    "CN home",
    "UA home",
    "IN home",
)
CLOUD = ("US hosting", "IE hosting", "NL hosting", "DE hosting", "FR hosting")
SYLLABLES = "ba be bo da di do fa fe ga go ha he ka ko la le li lo ma me mi mo na ne no pa pe ra re ri ro sa se si so ta te ti to va ve wi za".split()  # noqa: SIM905 - a list of 40 strings is no better to read
PORTS_KNOCKED = (22, 23, 80, 443, 445, 1433, 2222, 3389, 5060, 5900, 8080, 8443)


class Site(msgspec.Struct, frozen=True):
    """One web site or outside service."""

    name: str
    addresses: tuple[str, ...]
    sent_bytes: int  # of a usual visit
    received_bytes: int


def address(rng: Random, kind: str) -> str:
    """Any address of the ranges of this kind, `DE home` or only `DE`."""
    number = rng.choice([i for i, range_ in enumerate(RANGES) if range_.startswith(kind)])
    return _nth(number * ADDRESSES_PER_RANGE + rng.randrange(16, ADDRESSES_PER_RANGE - 16))


def within(rng: Random, network: str) -> str:
    """Another address of the same /24, as a provider gives after a reconnect."""
    return f"{network.rsplit('.', 1)[0]}.{rng.randrange(2, 250)}"


def countries() -> str:
    """The country of each range as CSV, for whoever wants to look addresses up."""
    rows = ["network,country"]
    for number, range_ in enumerate(RANGES):
        rows.append(f"{_nth(number * ADDRESSES_PER_RANGE)}/20,{range_[:2]}")
    return "\n".join(rows) + "\n"


def word(rng: Random, syllables: int = 3) -> str:
    return "".join(rng.choice(SYLLABLES) for _ in range(syllables))


def sites(rng: Random, count: int) -> list[Site]:
    """Sites of the world, a few of them large clouds with many addresses."""
    found = []
    for number in range(count):
        ending = rng.choice(("example", "example.com", "example.net", "example.org"))
        name = f"{rng.choice(('www', 'portal', 'app', 'cdn', 'api', 'mail'))}.{word(rng)}{number}.{ending}"
        cloud = rng.choice(CLOUD)
        spread = rng.choice((1, 1, 1, 2, 4, 8))
        addresses = tuple(address(rng, cloud) for _ in range(spread))
        found.append(Site(name, addresses, int(rng.lognormvariate(7.6, 0.8)), int(rng.lognormvariate(10.2, 1.1))))
    return found


def _nth(number: int) -> str:
    return f"198.{18 + (number >> 16)}.{(number >> 8) & 255}.{number & 255}"
