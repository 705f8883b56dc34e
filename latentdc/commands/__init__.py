"""Commands that stand on no folder of their own: `copy`, `env`, `list` and `verify`."""
