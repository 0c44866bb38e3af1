"""The corpus: hand-ins as teachers get them, and as they should never get them, each with its true score."""

import importlib

from tests.handins.case import HandInCase, canaries
from tests.handins.honest import WITNESSES

__all__ = ["WITNESSES", "HandInCase", "canaries", "corpus"]


MODULES = (
    "honest disorder damaged archives names hostile greed patches cheats searches forgeries callbacks classes escapes"
)


def corpus(names: str = MODULES) -> list[HandInCase]:
    """The hand-ins of these modules, the witnesses aside."""
    modules = [importlib.import_module(f"tests.handins.{name}") for name in names.split()]
    return [case for module in modules for case in module.CASES]
