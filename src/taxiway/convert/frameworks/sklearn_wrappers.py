"""Boosters of other libraries inside scikit-learn's pipelines; their libraries are imported only if one is there."""

from __future__ import annotations

from typing import Any

from taxiway.convert.trees import Tree


def _library(estimator: Any) -> str:  # noqa: ANN401 - any estimator
    return type(estimator).__module__.partition(".")[0]


def libraries(estimator: Any) -> tuple[str, ...]:  # noqa: ANN401 - any estimator
    """The distributions beside scikit-learn's own."""
    wrapped = {"xgboost": ("xgboost", "xgboost-cpu"), "lightgbm": ("lightgbm",)}.get(_library(estimator))
    return (*wrapped, "onnxmltools") if wrapped else ()


def compares_float64(estimator: Any) -> bool:  # noqa: ANN401 - any estimator
    """Whether a wrapped booster compares values in float64."""
    return _library(estimator) == "lightgbm"


def trees_of(estimator: Any) -> list[Tree]:  # noqa: ANN401 - any estimator
    """The trees of a wrapped booster; none of anything else."""
    if _library(estimator) == "xgboost":
        from taxiway.convert.frameworks import xgboost  # noqa: PLC0415 - its library, only now

        return xgboost.trees_of(estimator.get_booster())
    if _library(estimator) == "lightgbm":
        from taxiway.convert.frameworks import lightgbm  # noqa: PLC0415 - likewise

        return lightgbm.trees_of(estimator.booster_)
    return []


def register(estimator: Any) -> None:  # noqa: ANN401 - any estimator
    """Teach skl2onnx the converter of a wrapped booster."""
    if _library(estimator) == "xgboost":
        _register_xgboost(estimator)
    elif _library(estimator) == "lightgbm":
        _register_lightgbm(estimator)


def _register_xgboost(estimator: Any) -> None:  # noqa: ANN401
    from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost  # noqa: PLC0415

    _teach(estimator, f"XGBoost{type(estimator).__name__}", convert_xgboost)


def _register_lightgbm(estimator: Any) -> None:  # noqa: ANN401
    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm  # noqa: PLC0415

    _teach(estimator, f"LightGbm{type(estimator).__name__}", convert_lightgbm)


def _teach(estimator: Any, alias: str, converter: Any) -> None:  # noqa: ANN401
    from skl2onnx import update_registered_converter  # noqa: PLC0415
    from skl2onnx.common.shape_calculator import (  # noqa: PLC0415
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    is_classifier = hasattr(estimator, "classes_")
    shapes = calculate_linear_classifier_output_shapes if is_classifier else calculate_linear_regressor_output_shapes
    options = {"zipmap": [True, False, "columns"], "nocl": [True, False]} if is_classifier else {}
    update_registered_converter(type(estimator), alias, shapes, converter, options=options)
