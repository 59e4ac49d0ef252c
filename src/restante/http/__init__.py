"""HTTP mechanics without URLs: which dialect answers, routing, bodies, limits. RFC 9110."""
