# moved  # noqa: D100
from latentdc.io import put_back as put_back
from latentdc.io import read_json as read_json
from latentdc.io import require_file as require_file
from latentdc.io import sync as sync
