"""Rows in the shapes people have → the one that training and evaluation take.

``sources`` finds them, ``dialects`` knows what columns and prompts mean, ``images`` decodes
pictures one does not trust, ``survey`` looks at every row, ``tables`` keeps what is used, and
``loading`` puts it together, counting every row.
"""

from .dialects import Columns
from .images import Limits, decode, to_rgb
from .loading import Rows, check_images, load_rows
from .survey import BadRow

__all__ = ["BadRow", "Columns", "Limits", "Rows", "check_images", "decode", "load_rows", "to_rgb"]
