# moved  # noqa: D100
from latentdc.images import Whitening as Whitening
from latentdc.images import fit_whitening as fit_whitening
