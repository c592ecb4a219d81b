"""Every estimator of scikit-learn in its parameter variants: one module a family, each with a tuple ``VARIANTS``.

``variants()`` gathers them for the conformance test and for the generated table of supported estimators. Adding a family
is a module of this folder.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from tests.conformance.estimators.table import Variant


@cache
def variants() -> tuple[Variant, ...]:
    """All variants, family by family. Raises ValueError where two have one name."""
    families = (import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__))
    found = [v for family in families for v in getattr(family, "VARIANTS", ())]
    names = [v.name for v in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two variants are called {', '.join(twice)}")
    return tuple(found)


__all__ = ["Variant", "variants"]
