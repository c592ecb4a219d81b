"""``load``: from the path of a bundle to a Model that answers. The first call of every device application."""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping
from typing import Any

from edgeml.bundle.read import open_bundle
from edgeml.errors import BundleFileError, EngineError
from edgeml.runtimes.base import Model
from edgeml.runtimes.engines import open_engine


def load(
    path: str | os.PathLike[str],
    *,
    engine: str = "auto",
    threads: int = 1,
    verify_with: Any = None,
    options: Mapping[str, Any] | None = None,
) -> Model:
    """Open the bundle at ``path`` and an engine on it.

    With EDGEML_TELEMETRY, a folder, in the environment the model records there from the start, as ``record_to`` would;
    EDGEML_TELEMETRY_SERVER, _TOKEN and _KEY go with it. What is wrong with these is logged, and the model predicts.

    Args:
        path: a bundle, most often ``<name>.edgeml``. It is read once; replacing the file later changes
            nothing.
        engine: "native", "onnx" or "tflite"; "auto" takes the first of these whose artifact the bundle has.
        threads: how many threads one batch may use, from 1.
        verify_with: Ed25519 public key (path, bytes or key object, or several): the bundle must be signed by
            one.
        options: the engine's own. "tflite" has ``delegate``, a library (or a loaded delegate) that computes what it
            can, ``delegate_options`` for it, and ``xnnpack``, False to do without LiteRT's own; the others have none.

    Raises:
        BundleError: by the kind of what is wrong with the file; BundleFileError when there is none.
        EngineError: UnknownEngineError, EngineNotInBundleError, EngineNotInstalledError, or an option that the
            engine does not have.
        KeyFileError, SigningNotInstalledError: ``verify_with`` cannot be used.
    """
    model = open_model(path, engine=engine, threads=threads, verify_with=verify_with, options=options)
    if os.environ.get("EDGEML_TELEMETRY"):
        record(model)
    return model


def open_model(
    path: str | os.PathLike[str],
    *,
    engine: str = "auto",
    threads: int = 1,
    verify_with: Any = None,
    options: Mapping[str, Any] | None = None,
) -> Model:
    """``load`` without telemetry, for what checks or measures a bundle: its rows are no traffic."""
    if not isinstance(path, (str, os.PathLike)):
        raise BundleFileError(f"the path of a bundle is a str or a Path, not a {type(path).__name__}")
    count = _threads(threads)
    bundle = open_bundle(path, verify_with=verify_with)
    try:
        return Model(bundle, open_engine(bundle, engine, count, options), count, verify_with, options)
    except BaseException:
        bundle.close()
        raise


def record(model: Model, options: Mapping[str, Any] | None = None) -> None:
    """Have ``model`` record as ``options`` of ``record_to`` say, or the environment. What is wrong is logged."""
    try:
        if options is None:
            from edgeml.telemetry.settings import from_environment

            settings = from_environment(os.environ)
            if settings is None:
                return
            options = {"folder": settings.folder, "server": settings.server, "token": settings.token}
        if model.recorder is None:
            model.record_to(**options)
    except Exception as error:  # telemetry is no reason not to predict
        import logging  # 4 ms at the start of every device application that has no need of it

        logging.getLogger("edgeml.telemetry").warning("the model does not record: %s", error)


def _threads(threads: Any) -> int:
    try:
        count = operator.index(threads)
    except TypeError:
        count = 0
    if count < 1 or isinstance(threads, bool):
        raise EngineError(f"threads={threads!r} is not an integer from 1 on", "use threads=1, or the number of cores")
    return count
