"""The one file: a deterministic ZIP with digests and a signature, written and read here. See FORMAT.md."""

from edgeml.bundle.manifest import FORMAT_VERSION
from edgeml.bundle.read import Bundle, open_bundle
from edgeml.bundle.sign import generate_key
from edgeml.bundle.write import write_bundle

__all__ = ["FORMAT_VERSION", "Bundle", "generate_key", "open_bundle", "write_bundle"]
