"""Enrolment as a person asks for it: one attempt, and an error that says what to do.

``edgeml agent enrol`` calls it; the agent itself enrols in ``agent.py``, where a refusal only means to wait.
"""

from __future__ import annotations

from edgeml.errors import EnrolmentError
from edgeml.telemetry.agent import enrolment_request
from edgeml.telemetry.agent_answers import error_of, read_enrolment
from edgeml.telemetry.agent_settings import AgentSettings
from edgeml.telemetry.identity import Enrolment, Identity
from edgeml.telemetry.transport import HttpTransport

_REMEDIES = {
    401: "ask for another token: `edgeml monitor enrol-token` on the server",
    403: "an operator revoked this key: begin as a new device with another identity folder",
    429: "wait a while and try again",
}


def enrol_now(identity: Identity, settings: AgentSettings, transport: HttpTransport) -> Enrolment:
    """Enrol with ``settings.token`` and keep what the monitor said. Raises EnrolmentError, IdentityError."""
    assert settings.token is not None
    request = enrolment_request(identity, settings.token, settings.device_name(), settings.labels)
    try:
        reply = transport.enrol(request)
    finally:
        transport.close()
    found = read_enrolment(reply)
    if found is None:
        _, problem = error_of(reply)
        if not reply.status:
            raise EnrolmentError(f"the monitor was not reached: {problem}", "check --server and the network")
        raise EnrolmentError(
            f"the monitor did not take the device: {problem}",
            _REMEDIES.get(reply.status, "check that --server is the address of an EdgeML monitor"),
        )
    enrolment = Enrolment(*found, transport.address.url)
    identity.enrol(enrolment)
    return enrolment
