"""``./dev bench``: what the product's figures are, measured beside a peer in the same run."""
