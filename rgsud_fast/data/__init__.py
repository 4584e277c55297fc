"""Images: reading, caching, drawing crops, rendering rain, and the two domains and validation pairs of a run."""

from .demo import load_demo
from .domains import Domains, Pair
from .folder_set import FolderSet
from .image_files import read_image, to_batch, to_tensor, write_image
from .image_set import ImageSet
from .listing import list_images
from .load import load_domains
from .photo import Photo, read_photo, write_photo
from .rain import RainStyle, render_rain
from .sampler import Crop, Stream, draw, draw_exchanges, draw_places, draw_uniform, evenly, offsets_of, windows_of

__all__ = [
    "Crop",
    "Domains",
    "FolderSet",
    "ImageSet",
    "Pair",
    "Photo",
    "RainStyle",
    "Stream",
    "draw",
    "draw_exchanges",
    "draw_places",
    "draw_uniform",
    "evenly",
    "list_images",
    "load_demo",
    "load_domains",
    "offsets_of",
    "read_image",
    "read_photo",
    "render_rain",
    "to_batch",
    "to_tensor",
    "windows_of",
    "write_image",
    "write_photo",
]
