"""Which target a word on the command line means."""

from __future__ import annotations

from taxiway.core.errors import InvalidArgument
from taxiway.profile.targets.asking import Address
from taxiway.profile.targets.kserve_v1 import KServeV1Target, is_predict_path
from taxiway.profile.targets.oip_grpc import OipGrpcTarget
from taxiway.profile.targets.oip_http import OipHttpTarget, is_oip_path
from taxiway.profile.targets.openai import OpenAiTarget, is_completions_path
from taxiway.profile.targets.served import ServedTarget
from taxiway.profile.targets.target import Target
from taxiway.profile.targets.torchserve import TorchServeTarget, is_predictions_path
from taxiway.profile.wishes import Wishes

_FORMS = "/v2/models/NAME, /v1/models/NAME:predict, /predictions/NAME or /v1/chat/completions"


def find_target(word: str, wishes: Wishes) -> Target:
    """The target at this URL; what is no URL is served.

    Raises:
        InvalidArgument: no protocol has such a path.
    """
    if "://" not in word:
        return ServedTarget(word, wishes)
    address = Address.parse(word)
    if address.scheme.startswith("grpc"):
        return OipGrpcTarget(address, wishes.headers, wishes.shapes)
    if is_oip_path(address.path):
        return OipHttpTarget(address, wishes.headers, binary=wishes.binary, shapes=wishes.shapes)
    if is_predict_path(address.path):
        return KServeV1Target(address, wishes.headers, wishes.shapes)
    if is_predictions_path(address.path):
        return TorchServeTarget(address, wishes.headers, wishes.shapes)
    if is_completions_path(address.path):
        return OpenAiTarget(address, wishes.headers, wishes.model)
    raise InvalidArgument(
        f"{word!r} has no path of a known protocol",
        hint=f"known are {_FORMS}; a model itself is named by its path or as fraud:3",
    )
