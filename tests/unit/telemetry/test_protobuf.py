"""The protobuf form, as protobuf's own parser reads it with the messages that Prometheus declares."""

from __future__ import annotations

import importlib
import math
from io import BytesIO
from itertools import accumulate
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st

from taxiway.telemetry.catalogue import IN_FLIGHT, INFER_S, NV_SUCCESS, REQUEST_S
from taxiway.telemetry.histogram import LOWEST, Histogram, NativeHistogram
from taxiway.telemetry.protobuf import render_protobuf
from taxiway.telemetry.render import Point

MESSAGES = {
    "LabelPair": "name:1:STRING value:2:STRING",
    "Gauge": "value:1:DOUBLE",
    "Counter": "value:1:DOUBLE",
    "Bucket": "cumulative_count:1:UINT64 upper_bound:2:DOUBLE",
    "BucketSpan": "offset:1:SINT32 length:2:UINT32",
    "Histogram": "sample_count:1:UINT64 sample_sum:2:DOUBLE bucket:3:*Bucket schema:5:SINT32 zero_threshold:6:DOUBLE "
    "zero_count:7:UINT64 positive_span:12:*BucketSpan positive_delta:13:*SINT64",
    "Metric": "label:1:*LabelPair gauge:2:Gauge counter:3:Counter histogram:7:Histogram",
    "MetricFamily": "name:1:STRING help:2:STRING type:3:INT32 metric:4:*Metric",
}
"""What of io.prometheus.client is used: name, number and type of each field, `*` for repeated ones."""


def message_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="metrics.proto", package="io.prometheus.client", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for words in fields.split():
            called, number, kind = words.split(":")
            field = message.field.add(name=called, number=int(number))
            field.label = kinds.LABEL_REPEATED if kind.startswith("*") else kinds.LABEL_OPTIONAL
            kind = kind.removeprefix("*")
            if kind in MESSAGES:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".io.prometheus.client.{kind}"
            else:
                field.type = kinds.Type.Value(f"TYPE_{kind}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("io.prometheus.client.MetricFamily"))


FAMILY = message_class()


def families(points: list[Point]) -> dict[str, Any]:
    reading: Any = importlib.import_module("google.protobuf.proto")
    body = BytesIO(render_protobuf(points))
    told = iter(lambda: reading.parse_length_prefixed(FAMILY, body), None)
    return {family.name: family for family in told}


def buckets_of(histogram: Any) -> dict[int, int]:
    """Native buckets by index, as a reader works them out."""
    indices: list[int] = []
    at = 0
    for span in histogram.positive_span:
        at += span.offset
        indices += range(at, at + span.length)
        at += span.length
    return dict(zip(indices, accumulate(histogram.positive_delta), strict=True))


@pytest.mark.parametrize(("family", "field", "kind"), [(NV_SUCCESS, "counter", 0), (IN_FLIGHT, "gauge", 1)])
def test_a_number_is_read_back(family: Any, field: str, kind: int) -> None:
    labels = ("m\n", "1")[: len(family.labels)]
    told = families([Point(family, labels, 1234567)])[family.name]
    (metric,) = told.metric
    assert (told.type, told.help) == (kind, family.help)
    assert getattr(metric, field).value == 1234567
    assert [(one.name, one.value) for one in metric.label] == list(zip(family.labels, labels, strict=True))


@given(st.lists(st.integers(0, 10**13), max_size=40))
def test_both_kinds_of_buckets_are_read_back(values: list[int]) -> None:
    histogram = NativeHistogram()
    for value in values:
        histogram.observe(value)
    shown = histogram.view()
    told = families([Point(REQUEST_S, ("m", "1"), shown)])[REQUEST_S.name].metric[0].histogram
    fine = dict(shown.fine or ())
    assert (told.sample_count, told.sample_sum) == (len(values), shown.total)
    assert [one.cumulative_count for one in told.bucket] == list(accumulate(shown.counts))
    assert [one.upper_bound for one in told.bucket] == [*map(float, shown.le), math.inf]
    assert (told.schema, told.zero_threshold, told.zero_count) == (3, 2.0**-20, fine.pop(LOWEST, 0))
    assert buckets_of(told) == fine


def test_a_classic_histogram_has_nothing_native() -> None:
    told = families([Point(INFER_S, ("m", "1"), Histogram().view())])[INFER_S.name].metric[0].histogram
    assert (told.zero_threshold, len(told.positive_span)) == (0, 0)
