"""Who may do what: every route and the least that its caller must be, as one table.

``app.py`` refuses to make a route that is not in the table, ``access.py`` decides by it before a body is read, the
tests ask every route as every role, and the README's table is this one.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from edgeml.telemetry import wire

# Roles in a project; each may do what those before it may.
ROLES: Final = ("viewer", "operator", "admin")

# What a route may ask for, beside a role in the project of its path:
ANYONE = "anyone"  # no credentials; log-in and enrolment bring a secret of their own in the body
DEVICE = "device"  # a signature by an enrolled device's key
METRICS = "metrics"  # a metrics token or a root user; anyone with --open-metrics
SIGNED_IN = "signed in"  # any user, any token of a project
USER = "user"  # a person's session, no token of a program
ROOT = "root"  # a root user, who also is admin of every project

_P = "/v1/projects/{project}"
_D = _P + "/devices/{device}"


class Rule(NamedTuple):
    method: str
    path: str
    least: str


RULES: Final = tuple(
    Rule(*line.split(maxsplit=2))
    for line in f"""
    GET    /healthz                              {ANYONE}
    GET    /readyz                               {ANYONE}
    GET    /metrics                              {METRICS}
    GET    /openapi.json                         {ANYONE}

    POST   {wire.PATH}                           {DEVICE}
    POST   /v1/enrol                             {ANYONE}

    POST   /v1/login                             {ANYONE}
    POST   /v1/logout                            {USER}
    GET    /v1/me                                {SIGNED_IN}
    POST   /v1/me/password                       {USER}

    GET    /v1/users                             {ROOT}
    POST   /v1/users                             {ROOT}
    GET    /v1/users/{{name}}                    {ROOT}
    PATCH  /v1/users/{{name}}                    {ROOT}
    DELETE /v1/users/{{name}}                    {ROOT}
    GET    /v1/metrics-tokens                    {ROOT}
    POST   /v1/metrics-tokens                    {ROOT}
    DELETE /v1/metrics-tokens/{{token}}          {ROOT}
    GET    /v1/audit                             {ROOT}

    GET    /v1/projects                          {SIGNED_IN}
    POST   /v1/projects                          {ROOT}
    GET    {_P}                                  viewer
    PATCH  {_P}                                  {ROOT}
    GET    {_P}/summary                          viewer
    GET    {_P}/members                          admin
    PUT    {_P}/members/{{name}}                 admin
    DELETE {_P}/members/{{name}}                 admin
    GET    {_P}/tokens                           admin
    POST   {_P}/tokens                           admin
    DELETE {_P}/tokens/{{token}}                 admin
    GET    {_P}/enrolment-tokens                 operator
    POST   {_P}/enrolment-tokens                 operator
    DELETE {_P}/enrolment-tokens/{{token}}       operator

    GET    {_P}/devices                          viewer
    GET    {_D}                                  viewer
    PATCH  {_D}                                  operator
    POST   {_D}/revoke                           operator
    POST   {_D}/reinstate                        admin
    GET    {_D}/streams                          viewer
    GET    {_D}/windows                          viewer
    GET    {_D}/models/{{model}}/series          viewer
    GET    {_D}/quarantine/{{stream}}/{{sequence}} operator

    GET    {_P}/models                           viewer
    POST   {_P}/models                           operator
    GET    {_P}/models/{{model}}                 viewer
    GET    {_P}/models/{{model}}/series          viewer

    GET    {_P}/losses                           viewer
    GET    {_P}/losses/totals                    viewer
    GET    {_P}/events                           viewer
    GET    {_P}/quarantine                       viewer
    GET    {_P}/audit                            admin
    """.strip().splitlines()
    if line.strip()
)

_LEAST: Final = {(rule.method, rule.path): rule.least for rule in RULES}


def least(method: str, path: str) -> str:
    """What the caller of a route must be at least. KeyError for a route that is not in the table."""
    return _LEAST[method, path]


def reaches(role: str | None, least: str) -> bool:
    """Whether a role in a project, or none, is enough for ``least``, a role."""
    return role is not None and ROLES.index(role) >= ROLES.index(least)
