"""The native API, ``/restante/v1``: what none of the other dialects has. Events, live streams, waiting for mail."""
