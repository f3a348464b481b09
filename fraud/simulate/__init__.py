"""A seeded town of mobile-money users with ten kinds of fraud in it, run through the nodes' own feature code."""

from fraud.simulate.replay import History, simulate
from fraud.simulate.town import DAY_NS, START_NS, Typology

__all__ = ["DAY_NS", "START_NS", "History", "Typology", "simulate"]
