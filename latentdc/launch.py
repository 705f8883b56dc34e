# moved  # noqa: D100
from latentdc.ranks import warn as warn
from latentdc.runtime import agree as agree
from latentdc.runtime import main_alone as main_alone
from latentdc.runtime import main_first as main_first
from latentdc.runtime import start as start
