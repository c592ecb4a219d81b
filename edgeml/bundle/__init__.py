"""The one file: a deterministic ZIP with digests and a signature, written and read here. See FORMAT.md.

A device reads only: what writes (and with it the modules secrets and random) comes in when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeml.bundle.manifest import FORMAT_VERSION as FORMAT_VERSION
    from edgeml.bundle.read import Bundle as Bundle
    from edgeml.bundle.read import open_bundle as open_bundle
    from edgeml.bundle.sign import generate_key as generate_key
    from edgeml.bundle.write import write_bundle as write_bundle

__all__ = ["FORMAT_VERSION", "Bundle", "generate_key", "open_bundle", "write_bundle"]

_WHERE = {
    "FORMAT_VERSION": "manifest",
    "Bundle": "read",
    "generate_key": "sign",
    "open_bundle": "read",
    "write_bundle": "write",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'edgeml.bundle' has no attribute {name!r}")
    value = getattr(import_module(f"edgeml.bundle.{_WHERE[name]}"), name)
    globals()[name] = value
    return value
