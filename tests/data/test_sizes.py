import subprocess
import sys

from latentdc.data.digits import open_digits
from latentdc.data.sizes import KNOWN
from latentdc.recipe import Data


def test_the_known_size_of_digits_is_right():
    train, test = (open_digits(Data(), split) for split in ("train", "test"))
    assert KNOWN["digits"] == (len(train), len(test), train.num_classes)


def test_sizes_do_not_import_torch():
    code = "import latentdc.data.sizes, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
