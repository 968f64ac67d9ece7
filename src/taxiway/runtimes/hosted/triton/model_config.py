"""A model's configuration in the hands of its own `auto_complete_config`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

_INPUT = {
    "format": "FORMAT_NONE",
    "is_shape_tensor": False,
    "allow_ragged_batch": False,
    "optional": False,
    "is_non_linear_format_io": False,
}
_OUTPUT = {"label_filename": "", "is_shape_tensor": False, "is_non_linear_format_io": False}
_BATCHER = {
    "max_queue_delay_microseconds": 0,
    "preserve_ordering": False,
    "priority_levels": 0,
    "default_priority_level": 0,
    "priority_queue_policy": {},
}


class ModelConfig:
    """Triton's ModelConfig: what is not set yet may be set; what is set may only be confirmed."""

    def __init__(self, model_config: str) -> None:
        self._model_config: dict[str, Any] = json.loads(model_config)

    def as_dict(self) -> dict[str, Any]:
        """The configuration, to be looked at."""
        return self._model_config

    @property
    def _name(self) -> str:
        return str(self._model_config["name"])

    def set_max_batch_size(self, max_batch_size: int) -> None:
        """Rows that one run may have.

        Raises:
            ValueError: the configuration says more.
        """
        configured = self._model_config["max_batch_size"]
        if configured > max_batch_size:
            raise ValueError(
                f"configuration specified max_batch_size {configured}, but in auto-complete-config function for model "
                f"'{self._name}' specified max_batch_size {max_batch_size}"
            )
        self._model_config["max_batch_size"] = max_batch_size

    def set_dynamic_batching(self) -> None:
        """Have requests merged.

        Raises:
            ValueError: the configuration names another scheduler.
        """
        for scheduler in ("sequence_batching", "ensemble_scheduling"):
            if scheduler in self._model_config:
                raise ValueError(
                    f"Configuration specified scheduling_choice as '{scheduler}', but auto-complete-config function "
                    f"for model '{self._name}' tries to set scheduling_choice as 'dynamic_batching'"
                )
        self._model_config.setdefault("dynamic_batching", {})

    def set_model_transaction_policy(self, transaction_policy_dict: Mapping[str, Any]) -> None:
        """Say whether the model is decoupled.

        Raises:
            ValueError: something else is said, or the configuration says otherwise.
        """
        if any(name != "decoupled" for name in transaction_policy_dict):
            raise ValueError(
                f"model transaction property in auto-complete-config function for model '{self._name}' contains "
                "property other than 'decoupled'."
            )
        policy = self._model_config.setdefault("model_transaction_policy", {})
        if "decoupled" not in transaction_policy_dict:
            return
        wanted = transaction_policy_dict["decoupled"]
        if policy.get("decoupled", wanted) != wanted:
            raise ValueError(
                f"trying to change decoupled property in auto-complete-config for model '{self._name}', which is "
                f"already set to '{policy['decoupled']}'."
            )
        policy["decoupled"] = wanted

    def add_input(self, input: dict[str, Any]) -> None:  # noqa: A002 - Triton's name
        """Declare an input, or complete one that the configuration declares in part.

        Raises:
            ValueError: it contradicts the configuration, or lacks something.
        """
        self._add(
            "input", input, ("name", "data_type", "dims", "optional"), "'name', 'data_type', 'dims' and 'optional'"
        )

    def add_output(self, output: dict[str, Any]) -> None:
        """Declare an output, or complete one that the configuration declares in part.

        Raises:
            ValueError: it contradicts the configuration, or lacks something.
        """
        self._add("output", output, ("name", "data_type", "dims"), "'name', 'data_type' and 'dims'")

    def _add(self, side: str, given: dict[str, Any], allowed: Iterable[str], listed: str) -> None:
        where = f"in auto-complete-config function for model '{self._name}'"
        if "name" not in given:
            raise ValueError(f"{side} {where} is missing 'name' property.")
        if any(name not in allowed for name in given):
            raise ValueError(f"{side} '{given['name']}' {where} contains property other than {listed}.")
        for needed in ("data_type", "dims"):
            if needed not in given:
                raise ValueError(f"{side} '{given['name']}' {where} is missing '{needed}' property.")
        for declared in self._model_config[side]:
            if declared["name"] == given["name"]:
                self._agree(side, declared, given)
                declared.update(given)
                return
        self._model_config[side].append(given)

    def _agree(self, side: str, declared: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        name = given["name"]
        configured = declared.get("data_type", "TYPE_INVALID")
        if configured not in ("TYPE_INVALID", given["data_type"]):
            raise ValueError(
                f"unable to load model '{self._name}', configuration expects datatype {configured} for {side} "
                f"'{name}', model provides {given['data_type']}"
            )
        for what in ("dims", "optional"):
            is_told = declared.get(what) if what == "dims" else what in declared
            if is_told and what in given and declared[what] != given[what]:
                raise ValueError(
                    f"model '{self._name}', tensor '{name}': the model expects {what} {given[what]} but the model "
                    f"configuration specifies {what} {declared[what]}"
                )


def filled(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with the usual values where what a model added has none, as `initialize` is given it."""
    whole = dict(config)
    whole["input"] = [{**_INPUT, **one} for one in config.get("input", ())]
    whole["output"] = [{**_OUTPUT, **one} for one in config.get("output", ())]
    if "dynamic_batching" in whole:
        batcher = {**_BATCHER, **whole["dynamic_batching"]}
        if not batcher.get("preferred_batch_size"):
            batcher["preferred_batch_size"] = [whole["max_batch_size"]]
        whole["dynamic_batching"] = batcher
    return whole


def get_input_config_by_name(model_config: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """The declared input of this name; None if there is none."""
    return next((one for one in model_config.get("input", ()) if one["name"] == name), None)


def get_output_config_by_name(model_config: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """The declared output of this name; None if there is none."""
    return next((one for one in model_config.get("output", ()) if one["name"] == name), None)


def using_decoupled_model_transaction_policy(model_config: Mapping[str, Any]) -> bool:
    """Whether the model is decoupled: whether its requests may have any number of answers."""
    if "model_transaction_policy" in model_config:
        return bool(model_config["model_transaction_policy"]["decoupled"])
    return False
