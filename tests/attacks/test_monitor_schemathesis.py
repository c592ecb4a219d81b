"""The API asked by its own description: schemathesis makes requests that fit it and requests that do not, with a root
user's credentials and with none, and holds every answer to what the description promises.
"""

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import CHECKS
from schemathesis.generation import GenerationMode

from edgeml.fleet import roles
from edgeml.fleet.settings import Settings
from edgeml.telemetry import wire
from tests.monitor_tools import FakeDevice, cheap_hashes, enrolment_token, people, served, window

NO_LIMITS = Settings(
    port=0, retention_seconds=0, device_rate=0, token_rate=0, failure_rate=0, enrolment_rate=0, login_address_rate=0,
    login_name_rate=0,
)  # fmt: skip
# Of each route, mode and credentials; more find nothing that these do not.
EXAMPLES = 6
DESCRIBED = [rule for rule in roles.RULES if rule.path != "/openapi.json"]
# What fits the description may still be refused there: no description can say that a signature must be right, that two
# fields agree, or that a profile's hash is its own.
MORE_THAN_A_FORM = {wire.PATH, "/v1/enrol", "/v1/projects/{project}/models"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = tmp_path_factory.mktemp("schemathesis") / "m.db"
    with cheap_hashes(), served(f"sqlite:///{path}", NO_LIMITS) as made:
        who = people(made.store)
        device = FakeDevice(made.http)
        assert device.enrol(enrolment_token(made.store, who.project)).status_code == 201
        poison = {"poison": 1}
        assert device.send(device.items(window(), window(rows=5), poison)).status_code == 200
        ids = {
            "project": who.project, "device": device.device, "model": 1, "stream": device.stream, "sequence": 2
        }  # fmt: skip
        yield made, who, ids


@pytest.fixture(scope="module")
def schema(server):
    made, _, _ = server
    return schemathesis.openapi.from_dict(made.http.get("/openapi.json").json())


@pytest.mark.parametrize("credentials", ["root", "none"])
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize("rule", DESCRIBED, ids=lambda rule: f"{rule.method} {rule.path}")
@pytest.mark.filterwarnings("ignore")  # of schemathesis' own libraries
def test_answers_keep_the_description(server, schema, rule, mode, credentials):
    made, who, ids = server
    operation = schema[rule.path][rule.method]
    headers = who.headers("root") if credentials == "root" else {}
    known = {name: value for name, value in ids.items() if f"{{{name}}}" in rule.path}
    left_out = [] if rule.path not in MORE_THAN_A_FORM else [CHECKS.get_one("positive_data_acceptance")]
    asked = 0

    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    def ask(case):
        nonlocal asked
        asked += 1
        if mode is GenerationMode.POSITIVE and asked % 2:
            case.path_parameters.update(known)  # of what is there
        case.call_and_validate(base_url=made.url, headers=headers, excluded_checks=left_out)

    try:
        ask()
    except hypothesis.errors.Unsatisfiable:
        # A route without parameters or body: nothing can be wrong about a request.
        assert mode is GenerationMode.NEGATIVE
    assert asked or mode is GenerationMode.NEGATIVE


def test_nothing_was_an_internal_error(server):
    made, who, _ = server
    text = made.http.get("/metrics", headers=who.headers("metrics")).text
    assert 'status="500"' not in text
    assert 'status="200"' in text
