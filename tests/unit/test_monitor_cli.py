"""``edgeml monitor``: from nothing to a server a device can enrol with, and its administration, text and JSON alike."""

import json
from dataclasses import asdict

import pytest
from sqlalchemy import select

from edgeml.cli.app import cli
from edgeml.fleet import tables
from edgeml.fleet.retention import DAY, Retention
from edgeml.fleet.store import Store
from tests.cli_tools import run
from tests.monitor_tools import PASSWORD, FakeDevice, cheap_hashes, secret_of, served, window
from tests.recording_tools import small


@pytest.fixture
def monitor(tmp_path, monkeypatch):
    """A function that runs a subcommand on a database of its own; JSON comes back parsed."""
    monkeypatch.setenv("EDGEML_MONITOR_DATABASE", str(tmp_path / "m.db"))
    monkeypatch.delenv("EDGEML_MONITOR_PASSWORD", raising=False)
    (tmp_path / "password").write_text(PASSWORD + "\n")

    def monitor(*args, code=0, as_json=True):
        if args[0] == "init" or args[:2] in (("user", "create"), ("user", "password")):
            args = (*args, "--password-file", tmp_path / "password")
        with cheap_hashes():
            done = run("monitor", *args, *(["--json"] if as_json else []))
        assert done.exit_code == code, done.output
        if code:
            assert done.stderr.startswith("error: ")
            assert done.stdout == ""
            return done.stderr
        return json.loads(done.stdout) if as_json else done.stdout + done.stderr

    monitor.folder = tmp_path
    monitor.url = f"sqlite:///{tmp_path / 'm.db'}"
    return monitor


def test_from_nothing_to_a_device_that_reports(monitor):
    made = monitor("init", "--project", "shops", "--user", "ada")
    assert (made["project"]["name"], made["user"]) == ("shops", "ada")
    assert made["database"].endswith("m.db")
    with cheap_hashes(), served(monitor.url) as server:
        device = FakeDevice(server.http)
        assert device.enrol(made["enrolment_token"]).status_code == 201
        assert device.send(device.items(window(), window())).status_code == 200
        session = server.http.post("/v1/login", json={"name": "ada", "password": PASSWORD}).json()
        me = server.http.get("/v1/me", headers={"Authorization": f"Bearer {session['token']}"}).json()
        assert me["root"] is True
        # While the server runs, on the same database:
        (project,) = monitor("status")["projects"]
        assert (project["name"], project["devices"], project["windows"]) == ("shops", 1, 2)
        (row,) = monitor("devices")
        assert (row["name"], row["state"]) == ("till-7", "active")
        assert monitor("revoke", "till-7") == {"device": device.device, "name": "till-7", "state": "revoked"}
        assert device.send([]).status_code == 403
        assert monitor("reinstate", device.device)["state"] == "active"
        assert device.send([]).status_code == 200
    assert "already" in monitor("init", code=2)


def test_text_for_people_shows_each_secret_once(monitor):
    said = monitor("init", as_json=False)
    assert "enrolment token  em_" in said
    assert "edgeml monitor serve" in said
    assert PASSWORD not in said
    token = monitor("token", "create", "dashboard", "--role", "viewer", as_json=False)
    assert token.startswith("access token: em_")
    assert "shown this once" in token
    secret = secret_of(token)[:43]
    for listing in (
        ("token", "list"),
        ("enrol-token", "list"),
        ("user", "list"),
        ("project", "list"),
        ("status",),
        ("devices",),
    ):
        assert secret not in monitor(*listing, as_json=False)
        assert "em_" not in str(monitor(*listing))
    assert "dashboard" in monitor("token", "list", as_json=False)


def test_password_comes_from_a_file_the_variable_or_the_terminal_and_never_from_an_argument(monitor, monkeypatch):
    assert "no terminal" in run("monitor", "init").stderr
    monkeypatch.setenv("EDGEML_MONITOR_PASSWORD", "weak")
    assert "too short" in run("monitor", "init").stderr
    monkeypatch.setenv("EDGEML_MONITOR_PASSWORD", PASSWORD)
    assert run("monitor", "init").exit_code == 0
    for name in cli.get_command(None, "monitor").list_commands(None):
        command = cli.get_command(None, "monitor").get_command(None, name)
        for option in command.params:
            assert "password" not in option.name or option.name == "password_file"


def test_users_and_roles(monitor):
    monitor("init")
    assert "no role" not in str(monitor("user", "create", "ada"))
    assert monitor("user", "role", "ada", "operator")["role"] == "operator"
    shown = {row["name"]: row for row in monitor("user", "list")}
    assert shown["ada"]["roles"] == {"default": "operator"}
    assert shown["admin"]["root"] is True
    assert monitor("user", "role", "ada", "none")["role"] is None
    assert "no such member" in monitor("user", "role", "ada", "none", code=2)
    assert monitor("user", "change", "ada", "--disable")["disabled"] is True
    assert monitor("user", "change", "ada", "--enable", "--root")["root"] is True
    assert monitor("user", "password", "ada")["name"] == "ada"
    assert "no such user" in monitor("user", "password", "ghost", code=2)
    assert "there already is" in monitor("user", "create", "ada", code=2)
    assert monitor("user", "delete", "ada") == {"deleted": "ada"}
    assert "no other root user" in monitor("user", "delete", "admin", code=2)


def test_projects_and_which_one_is_meant(monitor):
    monitor("init")
    made = monitor("project", "create", "second")
    assert "several projects: default, second" in monitor("devices", code=2)
    assert monitor("devices", "--project", "second") == []
    assert monitor("devices", "--project", made["id"]) == []
    assert monitor("project", "rename", "second", "third")["name"] == "third"
    assert "no such project" in monitor("devices", "--project", "second", code=2)
    assert [row["name"] for row in monitor("project", "list")] == ["default", "third"]


def test_tokens(monitor):
    monitor("init")
    viewer = monitor("token", "create", "dashboard", "--role", "viewer", "--days", 2)
    assert viewer["expires"] - viewer["created"] == pytest.approx(2 * 86400, abs=5)
    metrics = monitor("token", "create", "prometheus", "--metrics")
    assert "--role or --metrics" in monitor("token", "create", "x", code=2)
    assert "--role or --metrics" in monitor("token", "create", "x", "--role", "viewer", "--metrics", code=2)
    assert [row["name"] for row in monitor("token", "list")] == ["dashboard"]
    assert [row["name"] for row in monitor("token", "list", "--metrics")] == ["prometheus"]
    assert monitor("token", "revoke", viewer["id"]) == {"revoked": viewer["id"]}
    assert "no such token" in monitor("token", "revoke", viewer["id"], code=2)
    assert monitor("token", "revoke", metrics["id"], "--metrics")
    for args, most in (((), 1), (("--uses", 5), 5), (("--fleet",), None)):
        assert monitor("enrol-token", "create", "rollout", *args)["max_uses"] == most
    assert "give one of them" in monitor("enrol-token", "create", "x", "--fleet", "--uses", 3, code=2)
    first = monitor("enrol-token", "list")[0]
    assert monitor("enrol-token", "revoke", first["id"])
    assert "a name" in monitor("enrol-token", "create", "bad name\n", code=2)


def test_a_bundle_is_registered(monitor):
    monitor("init")
    bundle = small(monitor.folder / "model.edgeml")
    row = monitor("add-model", bundle)
    assert (row["project"], row["profile_sha256"] is not None) == ("default", True)
    assert row["registered_by"].startswith("command line:")
    assert monitor("add-model", bundle) == row
    assert "number" in monitor("add-model", bundle, as_json=False)
    assert "absent" in monitor("add-model", monitor.folder / "absent.edgeml", code=2)


def test_backup_and_restore(monitor):
    monitor("init", "--project", "kept")
    backup = monitor.folder / "backup"
    monitor("backup", backup)
    (monitor.folder / "m.db").unlink()
    assert "there is no database" in monitor("project", "list", code=2)
    monitor("restore", backup)
    assert [row["name"] for row in monitor("project", "list")] == ["kept"]
    assert monitor("restore", backup, code=2)  # it is not empty


def test_retention(monitor):
    monitor("init")
    assert set(monitor("retention").values()) <= {0}
    with served(monitor.url) as server:
        device = FakeDevice(server.http)
        device.enrol(monitor("enrol-token", "create", "x")["token"])
        assert device.send(device.items(window())).status_code == 200
    windows, store = select(tables.windows.c.sequence), Store.open(monitor.url)
    monitor("retention")
    with store.read() as connection:
        assert connection.execute(windows).all()
    monitor("retention", "--keep", "windows=0", "--keep", "audit=ever")
    with store.read() as connection:
        assert not connection.execute(windows).all()
        lines = connection.execute(select(tables.audit.c.detail).where(tables.audit.c.action == "retention")).all()
    assert [line.detail["kept"] for line in lines] == [[], [], ["windows=0", "audit=ever"]]
    store.close()
    for wrong in ("windows", "windows=", "windows=x", "windows=-1", "windows=nan", "windowz=3", "=1"):
        assert "is not KIND=DAYS" in monitor("retention", "--keep", wrong, code=2)
        assert "is not KIND=DAYS" in monitor("serve", "--keep", wrong, code=2)


def test_help_says_the_defaults_of_retention():
    said = " ".join(run("monitor", "retention", "--help").stdout.split())
    for kind, seconds in asdict(Retention()).items():
        assert f"{kind} {seconds / DAY:.0f}" in said


def test_every_change_stands_in_the_audit_log_and_no_secret(monitor):
    made = monitor("init")
    token = monitor("token", "create", "dashboard", "--role", "viewer")
    monitor("user", "create", "ada")
    monitor("project", "create", "second")
    store = Store.open(monitor.url)
    with store.read() as connection:
        lines = connection.execute(select(tables.audit)).mappings().all()
    store.close()
    assert [line["action"] for line in lines] == ["init", "token create", "user create", "project create"]
    assert all(line["actor"].startswith("command line:") for line in lines)
    for secret in (PASSWORD, secret_of(token["token"]), secret_of(made["enrolment_token"])):
        assert secret not in str(lines)


@pytest.mark.parametrize("name", cli.get_command(None, "monitor").list_commands(None))
def test_every_subcommand_has_help_with_an_example(name):
    def leaves(command, path):
        if hasattr(command, "commands"):
            for child in command.commands.values():
                yield from leaves(child, [*path, child.name])
        yield command, path

    for command, path in leaves(cli.get_command(None, "monitor").get_command(None, name), [name]):
        done = run("monitor", *path, "--help")
        assert done.exit_code == 0
        assert "Example" in done.stdout, path
        assert f"edgeml monitor {' '.join(path)}" in done.stdout
        if not hasattr(command, "commands"):
            assert "--json" in done.stdout, path


def test_a_database_of_nobody_is_not_made_by_looking(monitor):
    assert "edgeml monitor init" in monitor("status", code=2)
    assert not (monitor.folder / "m.db").exists()


def test_a_missing_package_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "edgeml.fleet.serve", raising=False)
    done = run("monitor", "serve", "--port", "0")
    assert done.exit_code == 2
    assert "edgeml-sdk[monitor]" in done.stderr
