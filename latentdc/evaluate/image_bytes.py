# moved  # noqa: D100
from latentdc.synthetic.storage import image_bytes as image_bytes
