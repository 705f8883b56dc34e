"""Tables of runs: a recipe under every combination of named changes, as far as they are missing."""
