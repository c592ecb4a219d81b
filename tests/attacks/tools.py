"""What the attacks share: opening bytes as a bundle, a signed bundle, JSON values likely to break a check."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from edgeml.bundle import Bundle, open_bundle
from edgeml.errors import BundleError
from tests.attacks.forge import archive, contents, manifest, ordered, to_json

COMMON = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
DEEP = b'{"a":' * 5000 + b"1" + b"}" * 5000

GOOD_SIGNATURE = to_json({"algorithm": "ed25519", "key_id": "0" * 16, "signature": "A" * 86 + "=="})


def opened(folder: Path, data: bytes) -> Bundle:
    """Write ``data`` to a file and open it."""
    path = folder / "attack.edgeml"
    path.write_bytes(data)
    return open_bundle(path)


def refused(folder: Path, data: bytes) -> bool:
    """True when opening gives a BundleError, False when it opens; any other exception goes through."""
    try:
        opened(folder, data).close()
    except BundleError:
        return True
    return False


def signed(signature: bytes) -> bytes:
    encoded = to_json(manifest(contents()))
    return archive(ordered({"manifest.json": encoded, "signature.json": signature, **contents()}))


# Values that are likely to break a check: wrong types, limits, nesting, odd text.
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["vector", "predict", "native", "schema.json", "float64", "0" * 64]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
