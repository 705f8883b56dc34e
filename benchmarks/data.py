"""An epoch of random batches over a decoded set, beside decoding the same files anew.

python benchmarks/data.py FOLDER [RESOLUTION]   # a folder of parquet files or class folders
"""

import sys
import time

import torch

from latentdc.data.decode import decode
from latentdc.data.open import encoded_split, open_dataset
from latentdc.images import from_uint8
from latentdc.recipe import Data
from latentdc.runtime import device_name

BATCH = 256


def main() -> None:
    data = Data(source=sys.argv[1], resolution=int((sys.argv[2:] or [32])[0]))
    began = time.perf_counter()
    train = open_dataset(data, "train")
    opened = time.perf_counter() - began
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    began = time.perf_counter()
    for rows in order.split(BATCH):
        from_uint8(train.images[rows])
    epoch = time.perf_counter() - began
    files, some = encoded_split(data, "train"), order[:2000]
    began = time.perf_counter()
    for row in some.tolist():
        decode(files.read(row), data.resolution)
    plain = (time.perf_counter() - began) / len(some) * len(train)
    print(f"machine: {device_name(torch.device('cpu'))}, {torch.get_num_threads()} threads")
    print(f"open {len(train):,} images at {data.resolution} px: {opened:.1f} s (0 if cached)")
    print(f"epoch in batches of {BATCH}: {epoch:.2f} s, {len(train) / epoch:,.0f} images/s")
    print(f"the same, decoding every file again: {plain:.1f} s, {plain / epoch:.0f} times as long")


if __name__ == "__main__":
    main()
