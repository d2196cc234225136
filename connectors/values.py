"""What values of devices mean, one way for every parser: whole numbers, addresses, transports, the path of a URL.

All answer None for what is none of it and never raise; a parser that needs a stricter reading says so beside its own.
"""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address

DIGITS_MAX = 18  # of a whole number; more do not fit into 64 bits
SHORT_DIGITS = 5  # ports, states, small sizes: there are no more than 111,110 such texts
_SHORT: dict[str | None, int] = {}
ADDRESS_CHARS_MAX = 64  # no address is longer, not even one with a zone
ADDRESSES_REMEMBERED_MAX = 65_536
_PUBLIC: dict[str, bool | None] = {}  # address -> is it a public one; None for what is no address

TRANSPORTS = {  # protocol numbers (IANA), and the other spellings of ICMPv6
    "0": "hopopt",
    "1": "icmp",
    "2": "igmp",
    "6": "tcp",
    "8": "egp",
    "17": "udp",
    "41": "ipv6",
    "47": "gre",
    "50": "esp",
    "51": "ah",
    "58": "ipv6-icmp",
    "88": "eigrp",
    "89": "ospf",
    "103": "pim",
    "112": "vrrp",
    "132": "sctp",
    "icmp6": "ipv6-icmp",
    "icmpv6": "ipv6-icmp",
}


def whole_number(text: str | None) -> int | None:
    """A whole number that fits into 64 bits, written in ASCII digits alone; short ones are remembered."""
    known = _SHORT.get(text)
    if known is not None:
        return known
    if not text or not text.isdigit() or not text.isascii() or len(text) > DIGITS_MAX:
        return None
    number = int(text)
    if len(text) <= SHORT_DIGITS:
        _SHORT[text] = number
    return number


@lru_cache(maxsize=ADDRESSES_REMEMBERED_MAX)
def address_of(text: str) -> str | None:
    """An address in its usual spelling, without zone, IPv4 out of its IPv6 clothes; remembered."""
    try:
        found = ip_address(text[:ADDRESS_CHARS_MAX].partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return str(mapped or found)


def is_address(text: str) -> bool:
    """Whether a text is an IPv4 or IPv6 address; remembered."""
    return _known(text) is not None


def is_public(text: str) -> bool:
    """Whether a text is an address that the Internet routes; remembered."""
    return _known(text) is True


def _known(text: str) -> bool | None:
    if len(text) > ADDRESS_CHARS_MAX:
        return None
    try:
        return _PUBLIC[text]
    except KeyError:
        pass
    try:
        public: bool | None = ip_address(text).is_global
    except ValueError:
        public = None
    if len(_PUBLIC) >= ADDRESSES_REMEMBERED_MAX:
        _PUBLIC.clear()
    _PUBLIC[text] = public
    return public


def url_path(url: str) -> str | None:
    """The path of a URL, or of a request's target that begins with one."""
    rest = url.partition("?")[0]
    if "://" in rest:
        return "/" + rest.split("://", 1)[1].partition("/")[2]
    return rest if rest.startswith("/") else None
