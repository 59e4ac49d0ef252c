"""Tables, connection types and prepared statements; no logic."""
