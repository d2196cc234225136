"""Our rules against the attacks of crowdsec's hub: they fire where its scenarios overflow, and are silent elsewhere.

The logs and what is expected of them are read from the hub's own tests; the rules are ours, so a scenario may be met by
one rule of several, and one rule may meet many scenarios.
"""

import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgspec
import pytest
import yaml

from connectors.parse import Reader
from detectors.sigma import RuleSet
from detectors.sigma.rule_tests import hits

ROOT = Path(__file__).parent.parent
CASES = ROOT.parent / "shared" / "data" / "crowdsec-hub" / ".tests"
RECEIVED = 1_795_000_000.0  # 2026-11-18: the arrival of lines whose times state no year
GUESSING = re.compile(r"[-_]bf\b|[-_]bf[-_]|user[-_]enum")  # the hub has one scenario per product, we one rule for all
OVERFLOW = re.compile(r'GetScenario\(\) == "([^"]+)"')

BURST = "Burst of failed logons"
USERS = "Many user names tried at network services"
ACCOUNT = "Password guessing against one account"
MAIL_SLOW = "Slow password guessing at the mail server"
MAIL_USERS = "Slow search for mailboxes with a weak password"
MAIL_REFUSED = "Mail server refuses an address again and again"
SSH_USERS = "Many user names tried over SSH"
SSH_PROBED = "SSH server probed"
WEB_GUESSING = "Password guessing at a web site"
FILES = "Search for hidden files of a web site"
PAGES = "Search for hidden web pages"
APPLICATIONS = "Search for applications with known weaknesses"
WEAKNESS = "Known weakness of a web application tried"
CODE = "Code injected into a web request"
SCRIPT = "Script injected into a web request"
TRAVERSAL = "Path traversal in a web request"
AGENTS = "One address poses as many browsers"
TOOL = "Attack tool names itself in a web request"
PROXY = "Web server asked to act as a proxy"
PORTS = "Port scan against one machine"
WAF = "Web application firewall takes a request for an attack"
SURICATA = "Suricata reports a serious attack"

# scenario of the hub -> the rules of ours that say the same; one of them must fire where the scenario overflows
SCENARIOS: dict[str, tuple[str, ...]] = {
    # passwords guessed at services
    "crowdsecurity/asterisk_bf": (BURST,),
    "crowdsecurity/asterisk_user_enum": (USERS,),
    "crowdsecurity/aws-cloudtrail-bf-console-login": (BURST,),
    "crowdsecurity/dovecot-spam": (MAIL_SLOW, BURST),
    "crowdsecurity/exchange-bf": (BURST,),
    "crowdsecurity/mariadb-bf": (BURST,),
    "crowdsecurity/opnsense-gui-bf": (BURST,),
    "crowdsecurity/pgsql-user-enum": (USERS,),
    "crowdsecurity/proftpd-bf": (BURST,),
    "crowdsecurity/proftpd-bf_user-enum": (USERS,),
    "crowdsecurity/smb-bf": (BURST,),
    "crowdsecurity/teleport-bf": (BURST,),
    "crowdsecurity/vsftpd-bf": (BURST,),
    "crowdsecurity/windows-bf": (BURST,),
    "LePresidente/authelia-bf": (BURST,),
    "LePresidente/authelia-bf_user-enum": (USERS,),
    "LePresidente/gitea-bf": (BURST,),
    "LePresidente/gitea-bf_user-enum": (USERS,),
    "a1ad/mikrotik-bf": (BURST,),
    "corvese/apache-guacamole_bf": (BURST,),
    "corvese/apache-guacamole_user_enum": (USERS,),
    "fulljackz/pureftpd-bf": (BURST,),
    "hitech95/email-generic-bf": (BURST,),
    "hitech95/email-user-bf": (BURST,),
    "inherent-io/keycloak-slow-bf": (BURST,),
    "inherent-io/keycloak-user-enum-slow-bf": (USERS,),
    "jusabatier/cas-slow-bf": (ACCOUNT,),
    "Dominic-Wagner/vaultwarden-bf": (BURST,),
    "MariuszKociubinski/bitwarden-bf": (BURST,),
    "andreasbrett/webmin-bf": (BURST,),
    "andreasbrett/webmin-bf_user-enum": (USERS,),
    "Jgigantino31/mealie-bf": (BURST,),
    "LePresidente/adguardhome-bf": (BURST,),
    "LePresidente/emby-bf": (BURST,),
    "LePresidente/jellyfin-bf": (BURST,),
    "LePresidente/jellyseerr-bf": (BURST,),
    "LePresidente/ombi-bf": (BURST,),
    "LePresidente/overseerr-bf": (BURST,),
    "LearningSpot/dockge-bf": (BURST,),
    "PintjesB/technitium-bf": (BURST,),
    "a1ad/meshcentral-bf": (BURST,),
    "baudneo/zoneminder-bf": (BURST,),
    "crowdsecurity/cpanel-bf": (BURST,),
    "crowdsecurity/freeswitch-user-enumeration": (BURST,),  # the hub counts one name six times
    "crowdsecurity/home-assistant-bf": (BURST,),
    "gauth-fr/immich-bf": (BURST,),
    "gilbsgilbs/qbittorrent-bf": (BURST,),
    "schiz0phr3ne/prowlarr-bf": (BURST,),
    "schiz0phr3ne/radarr-bf": (BURST,),
    "schiz0phr3ne/sonarr-bf": (BURST,),
    "timokoessler/uptime-kuma-bf": (BURST,),
    # mail
    "Guezli/postfix-sasl-bf": (MAIL_SLOW,),
    "crowdsecurity/exim-spam": (MAIL_REFUSED,),
    "crowdsecurity/postfix-non-smtp-command": ("Something other than mail sent to the mail server",),
    "crowdsecurity/postfix-relay-denied": ("Search for a mail server that forwards foreign mail",),
    "crowdsecurity/postfix-spam": (MAIL_SLOW, MAIL_REFUSED),  # four of its six events are failed logons
    "melite/dovecot-slow-bf": (MAIL_SLOW,),
    "melite/dovecot-slow-bf_user-enum": (MAIL_USERS,),
    # SSH and VPN
    "crowdsecurity/ssh-bf": (SSH_USERS, SSH_PROBED, BURST),
    "crowdsecurity/ssh-bf_user-enum": (SSH_USERS,),
    "crowdsecurity/ssh-cve-2024-6387": ("Attack on a race in the SSH server",),
    "lepresidente/ssh-bad-keyexchange-bf": (SSH_PROBED,),
    "darkclip/charon-ipsec-bf": (ACCOUNT,),
    "pserranoa/openvpn-bf": ("Foreign client knocks at the VPN",),
    # firewalls, name servers, intrusion detection
    "crowdsecurity/iptables-scan-multi_ports": (PORTS,),
    "firewallservices/pf-scan-multi_ports": (PORTS,),
    "mstilkerich/bind9-refused": ("Name server questioned without permission",),
    "crowdsecurity/palo-alto-threat": ("Palo Alto firewall reports a serious attack",),
    "crowdsecurity/suricata-major-severity": (SURICATA,),
    "crowdsecurity/suricata-high-medium-severity": ("One address meets several signatures of Suricata",),
    "crowdsecurity/modsecurity": (WAF,),
    "barnoux/crs-anomaly-score": (WAF,),
    # web: passwords, searches, overload
    "crowdsecurity/http-apiscp-bf": (WEB_GUESSING,),
    "crowdsecurity/http-bf-wordpress_bf": (WEB_GUESSING,),
    "crowdsecurity/http-generic-bf": (WEB_GUESSING,),
    "crowdsecurity/CVE-2022-41697": (WEB_GUESSING,),  # users guessed at the logon of Ghost
    "crowdsecurity/http-admin-interface-probing": (APPLICATIONS,),
    "crowdsecurity/http-sap-interface-probing": (APPLICATIONS,),
    "crowdsecurity/http-technology-probing": (APPLICATIONS,),
    "crowdsecurity/http-wordpress-scan": (APPLICATIONS,),
    "crowdsecurity/http-wordpress_wpconfig": (FILES,),
    "crowdsecurity/http-sensitive-files": (FILES,),
    "crowdsecurity/http-probing": (PAGES, "Web server tested with other protocols"),
    "crowdsecurity/http-bad-user-agent": (TOOL,),
    "crowdsecurity/http-open-proxy": (PROXY,),
    "crowdsecurity/http-dos-random-uri": (PAGES,),
    "crowdsecurity/http-dos-swithcing-ua": (AGENTS,),
    "crowdsecurity/nginx-req-limit-exceeded": ("One address overloads a web site",),
    # web: attacks on weaknesses
    "crowdsecurity/http-path-traversal-probing": (TRAVERSAL,),
    "crowdsecurity/http-cve-2021-41773": (TRAVERSAL,),
    "crowdsecurity/http-cve-2021-42013": (TRAVERSAL,),
    "crowdsecurity/pulse-secure-sslvpn-cve-2019-11510": (TRAVERSAL, WEAKNESS),
    "crowdsecurity/http-sqli-probbing-detection": ("SQL injection in a web request",),
    "crowdsecurity/http-xss-probbing": (SCRIPT,),
    "baudneo/zoneminder_cve-2022-39285": (SCRIPT,),
    "crowdsecurity/CVE-2022-26134": (CODE,),
    "crowdsecurity/CVE-2022-42889": (CODE,),
    "crowdsecurity/CVE-2022-44877": (CODE,),
    "crowdsecurity/spring4shell_cve-2022-22965": (CODE,),
    "crowdsecurity/vmware-cve-2022-22954": (CODE,),
    "crowdsecurity/CVE-2017-9841": (WEAKNESS,),
    "crowdsecurity/CVE-2019-18935": (WEAKNESS,),
    "crowdsecurity/CVE-2022-37042": (WEAKNESS,),
    "crowdsecurity/CVE-2022-46169-bf": (WEAKNESS,),
    "crowdsecurity/CVE-2022-46169-cmd": (WEAKNESS,),
    "crowdsecurity/CVE-2023-22518": (WEAKNESS,),
    "crowdsecurity/CVE-2023-49103": (WEAKNESS,),
    "crowdsecurity/CVE-2024-38475": (WEAKNESS,),
    "crowdsecurity/CVE-2024-9474": (WEAKNESS,),
    "crowdsecurity/f5-big-ip-cve-2020-5902": (WEAKNESS,),
    "crowdsecurity/fortinet-cve-2018-13379": (WEAKNESS,),
    "crowdsecurity/fortinet-cve-2022-40684": (WEAKNESS,),
    "crowdsecurity/http-cve-probing": (WEAKNESS,),
    "crowdsecurity/vmware-vcenter-vmsa-2021-0027": (WEAKNESS,),
    # after the break-in
    "crowdsecurity/CVE-2023-23397": ("Windows sends a logon to a foreign WebDAV server",),
    "crowdsecurity/auditd-base64-exec-behavior": ("Encoded program decoded and run on Linux",),
    "crowdsecurity/auditd-postexploit-exec-from-net": ("File fetched and run on Linux",),
    "crowdsecurity/aws-cloudtrail-nwo-nwd-console-login": ("Logon to the AWS console at night",),
    "crowdsecurity/aws-cloudtrail-postexploit": ("AWS account explored with a stolen key",),
}

# case of the hub -> rules that fire there although none of their scenarios is expected, and why that is right
TRAIT = "the attack shows this trait as well, and the hub's test looks for the other one"
PARSED_ONLY = "the log holds such an attack, and the hub's test looks only at its parser"
BESIDES: dict[str, dict[str, str]] = {
    "CVE-2022-42889": {SCRIPT: TRAIT},
    "dovecot-spam": {MAIL_USERS: TRAIT},
    "http-cve-probing": {APPLICATIONS: TRAIT},
    "http-dos-random-uri": {AGENTS: TRAIT},
    "traefik_base-http-scenario": {FILES: TRAIT},
    "zoneminder_cve-39290": {SCRIPT: TRAIT},
    "zoneminder_cve-39291": {SCRIPT: TRAIT},
    "caddy-coraza": {WAF: PARSED_ONLY},
    "modsecurity-logs": {WAF: PARSED_ONLY},
    "modsecurity-logs-nginx": {WAF: PARSED_ONLY},
    "postfix-logs": {"Something other than mail sent to the mail server": PARSED_ONLY},
    "proxmox-logs": {BURST: "six logons of one address fail within four seconds; the hub's scenario is not found"},
    "suricata-logs-evelog": {SURICATA: PARSED_ONLY},
    "traefik_json": {TOOL: PARSED_ONLY},
}

# case of the hub -> why no rule can fire there
NOT_READ = {
    "aws-alb-http-bad-user-agent": "no parser reads the log of Amazon's load balancer",
    "envoy-http-bad-user-agent": "no parser knows Envoy's fields for the program of the client",
    "zoraxy-http-bad-user-agent": "no parser reads the program of the client in Zoraxy's log",
}


class Case(msgspec.Struct, frozen=True):
    """One test of the hub: a log, the scenarios that overflow on it, and the titles of our rules that fire."""

    name: str
    parser_only: bool  # no scenario is loaded, so that none can overflow
    expected: frozenset[str]
    fired: frozenset[str]
    log: bytes


@cache
def rules() -> RuleSet:
    return RuleSet.load([ROOT / "rules" / "sigma"])


@cache
def cases() -> dict[str, Case]:
    if not CASES.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{CASES} is missing")
        pytest.skip(f"{CASES} is missing")
    return {case.name: case for case in _read()}


def _read() -> Iterator[Case]:
    titles = {rule.id: rule.title for rule in rules().rules.values()}
    for path in sorted(CASES.glob("*/scenario.assert")):
        log = b"\n".join(each.read_bytes() for each in sorted(path.parent.glob("*.log")))
        lines = log.split(b"\n")
        read = Reader("auto", "test", "test").read(lines, RECEIVED)
        originals = [lines[index].decode("utf-8", "replace") for index in read.line_of]
        fired = frozenset(titles[each] for each in hits(rules(), read.events, originals))
        expected = frozenset(OVERFLOW.findall(path.read_text(encoding="utf-8")))
        config = yaml.safe_load((path.parent / "config.yaml").read_text(encoding="utf-8"))
        yield Case(path.parent.name, not any(config.get("scenarios") or ()), expected, fired, log)


def test_table_names_rules_that_exist() -> None:
    titles = {rule.title for rule in rules().rules.values() if rule.alerts}
    named = {title for ours in SCENARIOS.values() for title in ours}
    named |= {title for besides in BESIDES.values() for title in besides}
    assert not named - titles
    assert len(SCENARIOS) >= 30


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_rule_fires_where_the_scenario_overflows(scenario: str) -> None:
    found = [case for case in cases().values() if scenario in case.expected and case.name not in NOT_READ]
    if not found:
        pytest.skip("no test of the hub that is at hand expects this scenario")
    missed = [f"{case.name}: only {sorted(case.fired)}" for case in found if not case.fired & set(SCENARIOS[scenario])]
    assert not missed, "\n".join(missed)


def test_rules_are_silent_where_no_scenario_of_theirs_overflows() -> None:
    meant: dict[str, set[str]] = {}  # rule -> its scenarios
    for scenario, ours in SCENARIOS.items():
        for title in ours:
            meant.setdefault(title, set()).add(scenario)
    guessing = {scenario for case in cases().values() for scenario in case.expected if GUESSING.search(scenario)}
    meant[BURST] |= guessing
    meant[USERS] |= guessing
    expecting = {title: {c.log for c in cases().values() if c.expected & meant[title]} for title in meant}
    wrong = []
    for case in cases().values():
        loud = {title for title in case.fired if title in meant and case.log not in expecting[title]}
        if case.parser_only:
            loud -= {BURST, USERS}  # such logs hold failed logons at the same second, as samples for a parser
        wrong += [f"{case.name}: {title}" for title in sorted(loud - BESIDES.get(case.name, {}).keys())]
    assert not wrong, "\n".join(wrong)


def test_no_difference_is_named_in_vain() -> None:
    fired = {name: case.fired for name, case in cases().items()}
    vain = [f"{name}: {title}" for name, titles in BESIDES.items() for title in titles.keys() - fired.get(name, titles)]
    vain += [name for name in NOT_READ if fired.get(name)]
    assert not vain


def test_innocent_logs_raise_no_alert() -> None:
    high = {rule.title for rule in rules().rules.values() if rule.level in {"high", "critical"}}
    quiet = [case for case in cases().values() if not case.expected]
    assert len(quiet) >= 40
    assert not [f"{case.name}: {title}" for case in quiet for title in case.fired & high]
