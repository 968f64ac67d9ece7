"""What a handler is told of its model and of the requests of one batch, and what it says beside its answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class RequestProcessor:
    """One request's headers, and what its answer is sent with.

    Header names are found whatever their case: HTTP does not tell them apart.
    """

    def __init__(self, request_header: Mapping[str, Any]) -> None:
        self._request_header = dict(request_header)
        self._lower = {name.lower(): value for name, value in request_header.items()}
        self._response_header: dict[str, str] = {}
        self._status_code = 200
        self._reason_phrase: str | None = None

    def get_request_property(self, key: str) -> Any:  # noqa: ANN401 - text, or an object for a field of a form
        """A header; None if there is none of that name."""
        return self._lower.get(key.lower())

    def get_request_properties(self) -> dict[str, Any]:
        """All headers."""
        return self._request_header

    def report_status(self, code: int, reason_phrase: str | None = None) -> None:
        """What the answer's status is to be."""
        self._status_code, self._reason_phrase = code, reason_phrase

    def get_response_status_code(self) -> int:
        """The answer's status."""
        return self._status_code

    def get_response_status_phrase(self) -> str | None:
        """And its phrase."""
        return self._reason_phrase

    def add_response_property(self, key: str, value: str) -> None:
        """A header of the answer."""
        self._response_header[key] = value

    def get_response_headers(self) -> dict[str, str]:
        """The headers of the answer."""
        return self._response_header

    def get_response_header(self, key: str) -> str | None:
        """One of them."""
        return self._response_header.get(key)


class Context:
    """The second argument of every handler. Requests are named by their place in the batch, `idx`.

    Attributes:
        model_name: the model's name.
        manifest: MAR-INF/MANIFEST.json.
        model_yaml_config: the archive's configuration file (`--config-file`); empty if it has none.
        metrics: takes what the handler measures.
        request_ids: by place in the batch.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - TorchServe's own signature
        self,
        model_name: str,
        model_dir: str,
        manifest: Mapping[str, Any] | None,
        batch_size: int,
        gpu: int | None,
        mms_version: str,
        limit_max_image_pixels: bool = True,
        metrics: Any = None,  # noqa: ANN401
        model_yaml_config: Mapping[str, Any] | None = None,
    ) -> None:
        self.model_name = model_name
        self.manifest = manifest
        self.model_yaml_config = dict(model_yaml_config or {})
        self.metrics = metrics
        self.request_ids: dict[int, str] | None = None
        self.request_processor: list[RequestProcessor] = []
        self._system_properties = {
            "model_dir": model_dir,
            "gpu_id": gpu,
            "batch_size": batch_size,
            "server_name": "MMS",
            "server_version": mms_version,
            "limit_max_image_pixels": limit_max_image_pixels,
        }

    @property
    def system_properties(self) -> dict[str, Any]:
        """Where the model lies, and on which device it is to run."""
        return self._system_properties

    def get_request_id(self, idx: int = 0) -> str | None:
        """A request's id."""
        return None if self.request_ids is None else self.request_ids.get(idx)

    def get_request_header(self, idx: int, key: str) -> Any:  # noqa: ANN401
        """A request's header."""
        return self.request_processor[idx].get_request_property(key)

    def get_all_request_header(self, idx: int) -> dict[str, Any]:
        """A request's headers."""
        return self.request_processor[idx].get_request_properties()

    def set_response_content_type(self, idx: int, value: str) -> None:
        """What an answer is."""
        self.set_response_header(idx, "content-type", value)

    def get_response_content_type(self, idx: int) -> str | None:
        """What an answer is said to be."""
        return self.request_processor[idx].get_response_header("content-type")

    def get_response_status(self, idx: int) -> tuple[int, str | None]:
        """An answer's status and its phrase."""
        one = self.request_processor[idx]
        return one.get_response_status_code(), one.get_response_status_phrase()

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        """What an answer's status is to be."""
        if idx < len(self.request_processor):
            self.request_processor[idx].report_status(code, reason_phrase=phrase)

    def set_all_response_status(self, code: int = 200, phrase: str = "") -> None:
        """The same for all of the batch."""
        for one in self.request_processor:
            one.report_status(code, reason_phrase=phrase)

    def get_response_headers(self, idx: int) -> dict[str, str]:
        """An answer's headers."""
        return self.request_processor[idx].get_response_headers()

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        """A header of an answer."""
        self.request_processor[idx].add_response_property(key, value)
