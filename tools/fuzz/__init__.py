"""Fuzzing of everything that reads bytes from outside: a small mutation engine, and one module a target."""
