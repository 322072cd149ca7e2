"""How fast it is, measured through the public API on the running stack."""
