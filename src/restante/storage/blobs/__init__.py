"""Stores for message bytes that are too large for a row."""
