"""Async functions ``verb(rt, ...)`` that sequence bytes, DNS, network and one or two transactions."""
