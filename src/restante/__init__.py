"""Restante: a self-hosted, programmable mail platform."""

__version__ = "0.1.0"
