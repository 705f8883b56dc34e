# moved  # noqa: D100
from latentdc.io import InUse as InUse
from latentdc.io import lock_owner as owner  # noqa: F401
from latentdc.io import locked as hold  # noqa: F401
