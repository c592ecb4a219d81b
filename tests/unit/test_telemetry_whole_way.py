"""From a pipeline to the monitor's figures: what the monitor says it counted is what a model was asked, bin by bin.

The truth is ``profile.bin_counts`` of all rows and answers at once; the way is the real one, with a spool on disk, an
agent in the process, HTTP, and a database of either kind.
"""

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import edgeml
from edgeml.bundle.read import open_bundle
from edgeml.bundle.zip_layout import PROFILE
from edgeml.errors import MissingColumnError
from edgeml.fleet import accounts
from edgeml.profile import bin_counts
from edgeml.telemetry.agent_settings import AgentSettings
from edgeml.telemetry.agent_thread import AgentThread
from edgeml.telemetry.spool import Spool
from tests.monitor_tools import enrolment_token, people, served

MODELS = {
    "classifier": RandomForestClassifier(5, max_depth=4, random_state=0),
    "regressor": GradientBoostingRegressor(n_estimators=5, random_state=0),
}


def rows(number, seed):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "amount": rng.normal(100, 30, number),
            "age": rng.integers(18, 90, number),
            "shop": rng.choice(["Bern", "Chur", "Genève", "\U0001f600"], number),
            "unread": rng.normal(size=number),
        }
    )
    frame.loc[rng.random(number) < 0.1, "amount"] = np.nan
    frame.loc[rng.random(number) < 0.1, "shop"] = None
    return frame


def drifted(number, seed):
    """Rows that leave the bins: larger, infinite where the model takes it, unseen."""
    frame = rows(number, seed)
    frame["amount"] *= 3
    frame["age"] += 40
    frame.loc[::5, "shop"] = "Zürich"
    return frame


@pytest.fixture(params=MODELS)
def bundle(request, tmp_path):
    X = rows(800, 0)
    y = X["amount"].fillna(100) + X["age"]
    prepare = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["amount", "age"]),
        (OneHotEncoder(handle_unknown="ignore"), ["shop"]),
    )
    target = np.where(y > 150, "high", "low") if request.param == "classifier" else y
    pipeline = make_pipeline(prepare, MODELS[request.param]).fit(X, target)
    edgeml.compile(pipeline, X, target, output=tmp_path / "till.edgeml", formats=["native"]).close()
    return tmp_path / "till.edgeml"


def test_the_monitor_counts_what_the_model_was_asked(bundle, database, tmp_path):
    with served(database) as server:
        project = people(server.store).project
        token = enrolment_token(server.store, project)
        asked, answers = [], {}
        with edgeml.load(bundle) as model:
            model.record_to(tmp_path / "spool", window_rows=700, server=server.url, token=token)
            for at in range(4):
                X = rows(500, at + 1) if at % 2 else drifted(500, at + 1)
                asked.append(X)
                for method in model.manifest["methods"]:
                    answers.setdefault(method, []).append(getattr(model, method)(X))
            single = drifted(50, 99)
            asked.append(single)
            records = single.to_dict("records")
            for method in model.manifest["methods"]:
                one = getattr(model, f"{method}_one", None)
                given = [one(r) for r in records] if one else getattr(model, method)(single)
                answers[method].append(np.array(given))
            with pytest.raises(MissingColumnError):
                model.predict(single.drop(columns="amount"))
            recorder = model.recorder
            assert recorder.flush()
            model.stop_recording()
        spool = Spool(tmp_path / "spool")
        thread = AgentThread(spool, tmp_path / "spool", AgentSettings(server=server.url))
        thread.start()
        try:
            assert thread.flush(60)
        finally:
            thread.stop()
            spool.close()
        headers = reader(server, project)
        (known,) = server.http.get(f"/v1/projects/{project}/models", headers=headers).json()["items"]
        series = server.http.get(
            f"/v1/projects/{project}/models/{known['id']}/series", params={"level": "day"}, headers=headers
        )
        assert series.status_code == 200, series.text
        entries = series.json()["items"]
        devices = server.http.get(f"/v1/projects/{project}/devices", headers=headers).json()["items"]

    methods = len(answers)
    everything = pd.concat(asked)
    with open_bundle(bundle) as opened:
        profile = opened.json(PROFILE)
    assert sum(e["rows"] for e in entries) == methods * len(everything)
    assert len(devices) == 1
    for at, record in enumerate(profile["features"]):
        values = everything[record["name"]].to_numpy()
        if record["kind"] == "categories":
            values = values.astype(object)
        expected = np.array(bin_counts(record, values)["counts"]) * methods
        found = np.sum([e["features"][at] for e in entries], axis=0)
        np.testing.assert_array_equal(found, expected, err_msg=record["name"])
    for at, record in enumerate(profile["scores"]):
        method, _, column = record["name"].partition("[")
        values = np.concatenate(answers[method])
        if column:
            values = values[:, int(column.rstrip("]"))]
        found = np.sum([e["scores"][at] for e in entries], axis=0)
        np.testing.assert_array_equal(found, bin_counts(record, values)["counts"], err_msg=record["name"])
    errors = [e["errors"] for e in entries if e["errors"]]
    assert errors == [{"MissingColumnError": 1}]


def reader(server, project):
    with server.store.write() as connection:
        token = accounts.create_token(connection, project, name="reader", role="viewer", expires=None, now=0.0)["token"]
    return {"Authorization": f"Bearer {token}"}
