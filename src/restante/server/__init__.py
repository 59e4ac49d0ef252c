"""Putting it all together: the only floor that picks engines, opens listeners and starts processes."""
