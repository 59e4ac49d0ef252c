"""Where rows and bytes live: engines behind ``Database``, blob stores, signals, upgrades."""
