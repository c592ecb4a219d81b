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
    """All variants, family by family; one that two families list is there once.

    Raises ValueError where two that differ have one name.
    """
    families = (import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__))
    found: dict[str, Variant] = {}
    for variant in (v for family in families for v in getattr(family, "VARIANTS", ())):
        first = found.setdefault(variant.name, variant)
        if (first.data, first.of, first.skip) != (variant.data, variant.of, variant.skip):
            raise ValueError(f"two variants are called {variant.name}: give one a `what`")
    return tuple(found.values())


__all__ = ["Variant", "variants"]
