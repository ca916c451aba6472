"""The composition root: assembles devices, rules and tasks; parses, prints and plots."""

from .main import main

__all__ = ["main"]
