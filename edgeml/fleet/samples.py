"""The form of sampled raw rows as a device sends them: sealed to a key the monitor does not have."""

from __future__ import annotations

from typing import Any

from edgeml.errors import WireError
from edgeml.telemetry.window import MAX_NAME


def check_sample(payload: Any) -> None:
    """Raises WireError, naming the field, when ``payload`` is not sampled rows; what is sealed is not read."""
    if not isinstance(payload, dict) or set(payload) != {"rows_version", "model", "wall", "sealed"}:
        raise WireError("rows: not {rows_version, model, wall, sealed}")
    if payload["rows_version"] != 1:
        raise WireError(f"rows: version {payload['rows_version']!r:.40} is not known")
    model = payload["model"]
    if not isinstance(model, dict) or not {"name", "version", "manifest_sha256"} <= set(model):
        raise WireError("rows: model is not {name, version, manifest_sha256}")
    if not isinstance(model["name"], str) or not 0 < len(model["name"]) <= MAX_NAME:
        raise WireError(f"rows: model.name is not a text of 1 to {MAX_NAME} characters")
    if not isinstance(payload["sealed"], dict) or not payload["sealed"]:
        raise WireError("rows: sealed is not an object")
