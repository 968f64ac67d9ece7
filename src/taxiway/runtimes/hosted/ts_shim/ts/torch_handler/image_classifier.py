"""TorchServe's image classifier: an image in, the five likeliest classes out."""

from __future__ import annotations

from typing import Any

import torch
from torchvision import transforms

from ..utils.util import map_class_to_label  # noqa: TID252 - found as `ts`, and as part of ours
from .vision_handler import VisionHandler


class ImageClassifier(VisionHandler):
    """Prepares images as ImageNet's are; answers probabilities by class."""

    topk = 5
    image_processing = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
    )

    def set_max_result_classes(self, topk: int) -> None:
        """How many classes are answered."""
        self.topk = topk

    def get_max_result_classes(self) -> int:
        """How many classes are answered."""
        return self.topk

    def postprocess(self, data: Any) -> list[Any]:  # noqa: ANN401
        """By request: the likeliest classes and their probabilities."""
        probabilities, classes = torch.topk(torch.softmax(data, dim=1), self.topk, dim=1)
        return list(map_class_to_label(probabilities.tolist(), self.mapping, classes.tolist()))
