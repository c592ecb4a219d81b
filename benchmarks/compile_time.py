"""``python -m benchmarks.compile_time [--json] [--quick]``: seconds and memory of each stage of a compile.

Three models: a forest of 100 trees of depth 8, a boosting of 1,000 trees of 31 leaves, a forest of 5 million nodes.
Each is compiled in a process of its own, with a clock around the functions of each stage. "Lowering" is converter,
passes and targets. ``peak_mb`` is the process's, ``model_mb`` its peak when the fitted model had been read. ``records``
is what the table of all benchmarks takes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import joblib
import numpy as np

MODELS = ("RF100 depth 8", "HGB1000", "RF 5M nodes")
LARGE = 5_000_000
KEPT = Path(__file__).parent / "out"  # the large forest takes minutes to fit: it is kept


def fit(name: str) -> tuple[Any, Any]:
    """(fitted model, its sample of 5,000 rows)."""
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

    rng = np.random.default_rng(0)
    large = name == "RF 5M nodes"
    X = rng.normal(size=(200_000 if large else 20_000, 20))
    y = (X[:, 0] + X[:, 1] * X[:, 2] + rng.normal(size=len(X)) * (2 if large else 0.5) > 0).astype(int)
    if name == "RF100 depth 8":
        return RandomForestClassifier(100, max_depth=8, n_jobs=2, random_state=0).fit(X, y), X[:5000]
    if name == "HGB1000":
        model = HistGradientBoostingClassifier(max_iter=1000, max_leaf_nodes=31, early_stopping=False, random_state=0)
        return model.fit(X, y), X[:5000]
    kept = KEPT / "forest_5m.joblib"
    if not kept.exists():
        forest = RandomForestClassifier(100, n_jobs=2, random_state=0).fit(X, y)
        nodes = np.cumsum([tree.tree_.node_count for tree in forest.estimators_])
        forest.estimators_ = forest.estimators_[: int(np.searchsorted(nodes, LARGE)) + 1]
        forest.n_estimators = len(forest.estimators_)
        kept.parent.mkdir(exist_ok=True)
        joblib.dump((forest, X[:5000]), kept)
    model, sample = joblib.load(kept)
    return model, sample


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1024)


def measure(path: str, formats: list[str]) -> dict[str, Any]:
    """Compile the model of a joblib file: seconds a stage, and peaks. Runs in a process of its own."""
    import edgeml
    import edgeml.compiler as compiler
    from edgeml.compiler import draft, source
    from edgeml.runtimes.kernels import library

    library.entry()
    model, X = joblib.load(path)
    started = _peak()
    clocks: dict[str, float] = {}

    def clock(stage: str, owner: Any, name: str, *, first: bool = False) -> None:
        """Add up what the calls of ``owner.name`` take; of the first alone where others call it again."""
        plain = getattr(owner, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return plain(*arguments, **options)
            finally:
                if not first or stage not in clocks:
                    clocks[stage] = clocks.get(stage, 0.0) + time.perf_counter() - start

        setattr(owner, name, timed)

    clock("convert", source, "to_program")
    clock("passes", source, "simplify")
    clock("passes", source, "optimise")
    clock("ask scikit-learn", compiler, "ask_scikit_learn")
    for name in formats:
        clock(f"lower {name}", import_module(f"edgeml.targets.{name}"), "lower", first=True)
    clock("parity", compiler, "judge_parity")
    clock("write", draft.Draft, "write")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        output = Path(folder) / "m.edgeml"
        start = time.perf_counter()
        edgeml.compile(model, X, output=output, formats=formats).close()
        total, peak, size = time.perf_counter() - start, _peak(), output.stat().st_size
        del model
        start = time.perf_counter()
        edgeml.load(output, engine=formats[0]).predict(X[:100])
        loaded = time.perf_counter() - start
    lowering = sum(clocks[stage] for stage in clocks if stage in ("convert", "passes") or stage.startswith("lower"))
    return {
        "compile_s": total,
        "lowering_s": lowering,
        "stages": clocks,
        "load_s": loaded,
        "bytes": size,
        "model_mb": started,
        "peak_mb": peak,
    }


def records(quick: bool = False) -> list[dict[str, Any]]:
    """One record a model and list of formats. ``quick`` leaves the large forest out."""
    found = []
    with tempfile.TemporaryDirectory(prefix="edgeml-compile-") as folder:
        for name in MODELS[: 2 if quick else 3]:
            path = Path(folder) / "model.joblib"
            joblib.dump(fit(name), path)
            for formats in (["native"], ["native", "onnx"]):
                record: dict[str, Any] = {"contender": f"EdgeML {' + '.join(formats)}", "model": name}
                call = f"measure({str(path)!r}, {formats!r})"
                code = f"import json; from benchmarks.compile_time import measure; print(json.dumps({call}))"
                done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
                if done.returncode:
                    words = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
                    found.append(record | {"failed": words[-1][:160]})
                else:
                    found.append(record | json.loads(done.stdout.splitlines()[-1]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compile_time", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the records")
    parser.add_argument("--quick", action="store_true", help="without the forest of 5 million nodes")
    options = parser.parse_args()
    found = records(options.quick)
    if options.json:
        print(json.dumps(found, indent=1))
        return
    for r in found:
        print(f"{r['model']}, {r['contender']}")
        if "failed" in r:
            print(f"  fails: {r['failed']}")
            continue
        for stage, seconds in r["stages"].items():
            print(f"  {stage:24}{seconds:9.2f} s")
        print(f"  {'lowering in all':24}{r['lowering_s']:9.2f} s\n  {'compile in all':24}{r['compile_s']:9.2f} s")
        print(f"  {'load and predict':24}{r['load_s']:9.2f} s, {r['bytes'] / 1e6:.2f} MB")
        print(f"  {'peak memory':24}{r['peak_mb']:9.0f} MB, of which {r['model_mb']:.0f} MB before the compile")


if __name__ == "__main__":
    main()
