"""Pure rules: where a threshold stands, which thresholds differ, and the search among them."""
