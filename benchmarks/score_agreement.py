"""Within-class rank correlation of scores in two files: `score_agreement.py A.parquet B.parquet`.

Both files are of `latentdc prune` and of the same images; each rule of the first is compared with
each rule of the second (Spearman, mean over classes, of hardness whatever the sign).
"""

import argparse
from pathlib import Path

from torch import Tensor

from latentdc.prune.report import within_class_spearman
from latentdc.prune.score_table import ScoreTable
from latentdc.recipe.rules import RULES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    options = parser.parse_args()
    first, second = read(options.first), read(options.second)
    assert first.hashes.equal(second.hashes), "the files are of other images"
    rows, columns = hardness(first), hardness(second)
    print(f"{'':>18} " + " ".join(f"{name:>16}" for name in columns))
    for name, one in rows.items():
        values = (within_class_spearman(one, other, first.labels) for other in columns.values())
        print(f"{name:>18} " + " ".join(f"{value:16.3f}" for value in values))


def read(path: Path) -> ScoreTable:
    table = ScoreTable.load(path)
    if table is None:
        raise SystemExit(f"{path} is no file of latentdc prune")
    return table


def hardness(table: ScoreTable) -> dict[str, Tensor]:
    names = [name for name in table.columns if name in RULES]
    return {n: table.hardness(n) for n in names}


if __name__ == "__main__":
    main()
