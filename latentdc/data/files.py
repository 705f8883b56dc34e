# moved  # noqa: D100
from latentdc.data.decode import pointer as pointer
from latentdc.data.folder import LeftOut as LeftOut
from latentdc.data.folder import exists as exists
from latentdc.data.folder import files_below as files_below
from latentdc.data.folder import is_clutter as is_clutter
from latentdc.data.folder import subfolders as subfolders
from latentdc.data.folder import tell as tell
from latentdc.plain_text import printable as printable
from latentdc.ranks import note as note
