"""Images into tensors."""

from __future__ import annotations

import abc
import base64
import io
from collections.abc import Sequence
from typing import Any

import torch

from ..handler_utils.timer import timed  # noqa: TID252 - found as `ts`, and as part of ours
from .base_handler import BaseHandler


class VisionHandler(BaseHandler, abc.ABC):
    """Decodes images with Pillow, and has `image_processing` make tensors of them."""

    image_processing: Any
    """Makes a tensor of an image: each handler has its own."""

    def initialize(self, context: Any) -> None:  # noqa: ANN401
        """Load the model; images may be as large as the server allows."""
        super().initialize(context)
        if not context.system_properties.get("limit_max_image_pixels"):
            _pillow().MAX_IMAGE_PIXELS = None

    @timed
    def preprocess(self, data: Sequence[Any]) -> Any:  # noqa: ANN401
        """The images of all requests, one tensor: encoded ones, Base64 of such, or nested lists of numbers."""
        return torch.stack([self._tensor(row.get("data") or row.get("body")) for row in data]).to(self.device)

    def _tensor(self, image: Any) -> Any:  # noqa: ANN401
        if isinstance(image, str):
            image = base64.b64decode(image)
        if isinstance(image, bytes | bytearray):
            return self.image_processing(_pillow().open(io.BytesIO(image)))
        return torch.as_tensor(image, dtype=torch.float32)


def _pillow() -> Any:  # noqa: ANN401
    try:
        from PIL import Image  # noqa: PLC0415 - only handlers of images need it
    except ImportError as problem:
        raise RuntimeError("this handler decodes images: install pillow and torchvision beside torch") from problem
    return Image
