# moved  # noqa: D100
from latentdc.images import Plain as Plain
from latentdc.images import Standardization as Standardization
from latentdc.images import fit_standardization as fit_standardization
