"""Okta System Log: logons, MFA, applications, users, groups, policies and tokens, as the API, a hook or a bridge sends them.

Okta's own names stay in `fields`, dotted (`debugContext.debugData.requestUri`); `user.name` is the name before the @.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from connectors.events import Event, Lazy, Origin, ParseError
from connectors.json_log import (
    Glance,
    Log,
    account,
    address,
    flat,
    head,
    instant,
    logs,
    part,
    parts,
    stated,
    text_of,
    url_path,
    whole,
)

NAME = "okta"

_LISTS = ("data.events", "events")  # event hooks
_ENVELOPES = ("detail",)  # Amazon EventBridge
_OUTCOMES = {
    "SUCCESS": "success",
    "ALLOW": "success",
    "FAILURE": "failure",
    "DENY": "failure",
    "RATE_LIMIT": "failure",
    "UNANSWERED": "failure",
    "ABANDONED": "failure",
}

Meaning = tuple[str, tuple[str, ...], tuple[str, ...]]
_AUTH, _SESSION = ("authentication",), ("authentication", "session")
_START, _INFO = ("start",), ("info",)
# Start of an event type -> kind, category, type; the longest that fits counts.
_KINDS: dict[str, Meaning] = {
    "user.session.start": ("auth", _SESSION, ("start", "user")),
    "user.session.end": ("auth", _SESSION, ("end", "user")),
    "user.session.expire": ("auth", _SESSION, ("end", "user")),
    "user.session.clear": ("auth", _SESSION, ("end", "user")),
    "user.session.access_admin_app": ("auth", _AUTH, _START),
    "user.session.impersonation.end": ("auth", _SESSION, ("end", "user")),
    "user.session.impersonation": ("auth", _SESSION, ("start", "user")),
    "user.session": ("auth", _SESSION, _INFO),
    "user.authentication": ("auth", _AUTH, _START),
    "user.authentication.slo": ("auth", _AUTH, ("end",)),
    "user.authentication.universal_logout": ("auth", _AUTH, ("end",)),
    "user.mfa.attempt_bypass": ("auth", _AUTH, _START),
    "user.mfa.okta_verify": ("auth", _AUTH, _INFO),
    "user.mfa": ("iam", ("iam",), ("user", "change")),
    "user.lifecycle.create": ("iam", ("iam",), ("user", "creation")),
    "user.lifecycle.delete": ("iam", ("iam",), ("user", "deletion")),
    "user.risk": ("threat", ("threat",), ("indicator",)),
    "user": ("iam", ("iam",), ("user", "change")),
    "group.lifecycle.create": ("iam", ("iam",), ("group", "creation")),
    "group.lifecycle.delete": ("iam", ("iam",), ("group", "deletion")),
    "group": ("iam", ("iam",), ("group", "change")),
    "iam": ("iam", ("iam",), ("admin", "change")),
    "app.user_membership": ("iam", ("iam",), ("user", "change")),
    "app.oauth2": ("auth", _AUTH, _INFO),
    "app.oauth2.signon": ("auth", _AUTH, _START),
    "app.oauth2.as.authorize": ("auth", _AUTH, _START),
    "app.oauth2.authorize": ("auth", _AUTH, _START),
    "app.generic.unauth_app_access_attempt": ("auth", _AUTH, _START),
    "app.inbound_del_auth": ("auth", _AUTH, _START),
    "app.ldap.login": ("auth", _AUTH, _START),
    "app.radius.agent.login": ("auth", _AUTH, _START),
    "app.ad.login": ("auth", _AUTH, _START),
    "app.kerberos_rich_client": ("auth", _AUTH, _START),
    "app": ("application", ("configuration",), ("change",)),
    "application.lifecycle.create": ("application", ("configuration",), ("creation",)),
    "application.lifecycle.delete": ("application", ("configuration",), ("deletion",)),
    "application.user_membership": ("iam", ("iam",), ("user", "change")),
    "application": ("application", ("configuration",), ("change",)),
    "policy.evaluate_sign_on": ("auth", _AUTH, _INFO),
    "policy.auth_reevaluate": ("auth", _AUTH, _INFO),
    "policy.lifecycle.create": ("policy", ("configuration",), ("creation",)),
    "policy.lifecycle.delete": ("policy", ("configuration",), ("deletion",)),
    "policy.rule.add": ("policy", ("configuration",), ("creation",)),
    "policy.rule.delete": ("policy", ("configuration",), ("deletion",)),
    "policy": ("policy", ("configuration",), ("change",)),
    "zone": ("policy", ("configuration",), ("change",)),
    "system.api_token.create": ("token", ("iam",), ("admin", "creation")),
    "system.api_token": ("token", ("iam",), ("admin", "change")),
    "system.idp": ("system", ("configuration",), ("change",)),
    "security.threat": ("threat", ("threat",), ("indicator",)),
    "security.request.blocked": ("threat", ("network",), ("denied",)),
    "security.attack": ("threat", ("threat",), ("indicator",)),
    "security.breached_credential": ("threat", ("threat",), ("indicator",)),
    "security": ("system", ("configuration",), ("change",)),
    "device": ("device", ("iam",), ("change",)),
}
_SYSTEM: Meaning = ("system", ("configuration",), _INFO)
_TARGETS = {  # type of a target -> ECS paths of its name, id and mail
    "User": ("user.target.full_name", "user.target.id", "user.target.email"),
    "UserGroup": ("user.target.group.name", "user.target.group.id", None),
    "AppInstance": ("okta.application.name", "okta.application.id", None),
    "PolicyRule": ("rule.name", "rule.id", None),
    "PolicyEntity": ("rule.ruleset", "okta.policy.id", None),
}
_GLANCE = Glance(
    *("eventType", "outcome.result", "actor.alternateId", "actor.displayName", "client.ipAddress", "published"),
    *("request.ipChain[].ip", "debugContext.debugData.requestUri", "displayMessage", "device.name"),
    *("target[].type", "target[].alternateId"),
    wrapped=(*_LISTS, *_ENVELOPES),
)
REMEMBERED_MAX = 4096  # event types whose meaning is kept


def sniff(text: str) -> bool:
    return (
        '"eventType"' in text
        and '"published"' in text
        and '"actor"' in text
        and ('"legacyEventType"' in text or '"displayMessage"' in text or '"debugContext"' in text)
    )


def parse(text: str, origin: Origin) -> Sequence[Event]:
    seen = _GLANCE.read(text)
    if seen is not None and "eventType" in seen and "actor" in seen:
        return (_event(seen, text, origin, text, False),)
    found, damaged = logs(text, _LISTS, _ENVELOPES)
    events = [_event(log, text, origin, log, damaged) for log in found if "eventType" in log and "actor" in log]
    if not events:
        raise ParseError("no Okta System Log event: no eventType and actor")
    return events


def _event(log: Log, text: str, origin: Origin, all_of_it: Log | str, damaged: bool) -> Event:
    get = log.get
    action = text_of(get("eventType"))
    kind, category, types = _SYSTEM if action is None else _meaning(action)
    result = text_of(part(log, "outcome").get("result"))
    outcome = None if result is None else _OUTCOMES.get(result.upper(), "unknown")
    if outcome == "failure" and types[0] == "start":
        types = ("start", "denied")
    actor = part(log, "actor")
    user, domain = _user(log, actor)
    source = address(part(log, "client").get("ipAddress"))
    if source is None and (chain := parts(part(log, "request"), "ipChain")):
        source = address(chain[0].get("ip"))
    at = instant(get("published"))
    uri = text_of(part(part(log, "debugContext"), "debugData").get("requestUri"))
    return Event(
        head(text, origin)[0] if at is None else at,
        NAME,
        f"okta.{kind}",
        category,
        types,
        action,
        outcome,
        None,
        text_of(get("displayMessage")),
        text_of(part(log, "device").get("name")),
        user,
        domain,
        source,
        url_path=None if uri is None else url_path(uri),
        service_name="okta" if category is _AUTH or category is _SESSION else None,
        fields=Lazy(_fields, all_of_it, damaged),
    )


@lru_cache(maxsize=REMEMBERED_MAX)
def _meaning(action: str) -> Meaning:
    known = _KINDS.get(action)
    while known is None and action:
        action = action.rpartition(".")[0]
        known = _KINDS.get(action)
    return known or _SYSTEM


def _user(log: Log, actor: Log) -> tuple[str | None, str | None]:
    """Who acts; where Okta does not know that, whom it is about."""
    name = text_of(actor.get("alternateId"))
    if name is None or name.lower() == "unknown":
        about = next((target for target in parts(log, "target") if target.get("type") == "User"), {})
        name = text_of(about.get("alternateId")) or text_of(actor.get("displayName"))
    return (None, None) if name is None or name.lower() == "unknown" else account(name)


def _fields(all_of_it: Log | str, damaged: bool) -> Log:
    log, damaged = whole(all_of_it, damaged)
    fields = flat(log, NAME)
    actor, client, security = part(log, "actor"), part(log, "client"), part(log, "securityContext")
    debug = part(part(log, "debugContext"), "debugData")
    place = part(client, "geographicalContext")
    fields |= stated(
        user__id=text_of(actor.get("id")),
        user__full_name=text_of(actor.get("displayName")),
        user__email=_mail(actor.get("alternateId")),
        user_agent__original=text_of(part(client, "userAgent").get("rawUserAgent")),
        event__id=text_of(log.get("uuid")),
        event__reason=text_of(part(log, "outcome").get("reason")),
        event__provider="okta",
        log__level=text_of(log.get("severity")),
        source__geo__city_name=text_of(place.get("city")),
        source__geo__country_name=text_of(place.get("country")),
        source__as__organization__name=text_of(security.get("asOrg")),
        source__domain=text_of(security.get("domain")),
        url__original=text_of(debug.get("url")) or text_of(debug.get("requestUri")),
        observer__vendor="Okta",
        shield__truncated=damaged or None,
    )
    for target in parts(log, "target"):
        paths = _TARGETS.get(text_of(target.get("type")) or "")
        if paths is not None:
            name, identity, mail = paths
            said = (
                (name, text_of(target.get("displayName"))),
                (identity, text_of(target.get("id"))),
                (mail, _mail(target.get("alternateId"))),
            )
            fields |= {path: value for path, value in said if path is not None and value is not None}
    return fields


def _mail(value: Any) -> str | None:
    return value if type(value) is str and "@" in value else None
