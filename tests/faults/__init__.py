"""Faults on purpose: kills, full disks, damaged and hostile files, malformed recipes.

`python -m tests.faults KIND --count N --seed S` tries N of them and prints one table line for each
group; every fault that was not held is named with the command that repeats it alone.
"""
