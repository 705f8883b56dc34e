# moved  # noqa: D100
from latentdc.io import checksum as checksum
from latentdc.io import load_tensors as load  # noqa: F401
from latentdc.io import read_table as read_table
