"""The rules of pruning, one file each; `names.py` lists them with their direction."""
