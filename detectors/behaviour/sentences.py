"""Numbers and findings in German and English words."""

from collections.abc import Mapping

from detectors.behaviour.profiles import Texts

ROLES = {
    "client": ("Arbeitsplatz", "Workstation"),
    "server": ("Server", "Server"),
    "external": ("Externe Adresse", "External address"),
    "person": ("Konto", "Account"),
    "admin": ("Administratorkonto", "Administrator account"),
    "service": ("Dienstkonto", "Service account"),
    "machine": ("Maschinenkonto", "Machine account"),
}
NAMELESS = {"address": ("Adresse", "Address"), "host": ("Rechner", "Host"), "user": ("Konto", "Account")}
_BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
WINDOW_WORDS = {"10m": "10 min", "30m": "30 min", "1h": "1 h", "6h": "6 h", "24h": "24 h", "72h": "72 h"}
DAY_TYPES = {
    "workday": ("Arbeitstag", "working day"),
    "saturday": ("Samstag", "Saturday"),
    "free": ("Sonn- oder Feiertag", "Sunday or holiday"),
}


def amount(value: float, unit: str, language: str) -> str:
    """612 MB, 1,4 GB (German), 17; `keiner` or `none` for nothing."""
    if value <= 0:
        return "keiner" if language == "de" else "none"
    text = ""
    if unit == "bytes":
        size, name = next(((size, name) for size, name in _BYTES if value >= size), (1.0, "B"))
        scaled = value / size
        text = f"{scaled:.1f} {name}" if scaled < 10 and size > 1 else f"{scaled:.0f} {name}"
    else:
        text = f"{value:.1f}" if value < 10 and value != int(value) else f"{value:.0f}"
    return text.replace(".", ",") if language == "de" else text


def span(seconds: float, language: str) -> str:
    """45 s, 12 min, 3.5 h, 2 days."""
    for size, name in ((86_400 * 2, "d"), (3600.0, "h"), (90.0, "min")):
        if seconds >= size:
            unit = {"d": 86_400.0, "h": 3600.0, "min": 60.0}[name]
            word = ("Tage" if language == "de" else "days") if name == "d" else name
            text = f"{seconds / unit:.1f}".removesuffix(".0")
            return f"{text.replace('.', ',') if language == 'de' else text} {word}"
    return f"{seconds:.0f} s"


def who(kind: str, group: str, name: str) -> tuple[str, str]:
    """The key with its role in front, German and English."""
    german, english = ROLES.get(group) or NAMELESS.get(kind, ("", ""))
    return f"{german} {name}".strip(), f"{english} {name}".strip()


def told(texts: Texts, german: Mapping[str, str], english: Mapping[str, str]) -> dict[str, str]:
    return {"de": texts.de.format_map(german), "en": texts.en.format_map(english)}
