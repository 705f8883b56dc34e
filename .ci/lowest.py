"""Print the lowest versions that pyproject.toml promises, as constraints for pip."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
for line in project["dependencies"] + [line for extra in extras.values() for line in extra]:
    if bound := re.fullmatch(r"([\w.-]+)(?:\[[\w,-]+\])?>=([\d.]+)", line):
        print(f"{bound[1]}=={bound[2]}")
    elif not line.startswith("latentdc["):
        raise SystemExit(f"pyproject.toml: {line!r} names no lowest version")
