"""The gRPC front door, one call at a time: inference, metadata, health, reflection, and errors as statuses."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grpc import StatusCode
from tests.flow.serving import Server, serve
from tests.support import onnx_models, slow_models
from tests.support.certificates import Authority
from tests.support.grpc_calls import PATIENCE_S, Channel, connected, infer_request, output_of, refused
from tests.support.keys import write_keys

from taxiway.config.model_config import POOL
from taxiway.core.errors import FailedPrecondition
from taxiway.server.wire.grpc.protos import (
    INFERENCE,
    REFLECTION,
    REFLECTION_ALPHA,
    message_class,
    method_names,
    request_class,
)

TWO = np.asarray([[1, 2]], np.float32)
ONE_ROW = (("a", TWO), ("b", TWO))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    onnx_models.two_outputs(folder / "both.onnx")
    onnx_models.echo_texts(folder / "texts.onnx")
    onnx_models.poisonable(folder / "poison.onnx")
    return folder


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with serve(models) as running:
        yield running


@pytest.fixture(scope="module")
def channel(server: Server) -> Iterator[Channel]:
    with connected(server.grpc) as channel:
        yield channel


# --- inference -----------------------------------------------------------------------------------------


def test_a_request_is_answered_in_raw_contents(channel: Channel) -> None:
    answer = channel.call("ModelInfer", infer_request("both", *ONE_ROW, id="q1"))
    assert (answer.model_name, answer.model_version, answer.id) == ("both", "1", "q1")
    assert [output.name for output in answer.outputs] == ["SUM", "DIFFERENCE"]
    assert (output_of(answer, 0), output_of(answer, 1)) == ([[2, 4]], [[0, 0]])


def test_typed_contents_are_answered_raw_unless_asked(channel: Channel) -> None:
    request = infer_request("both", *ONE_ROW)
    for entry in request.inputs:
        entry.contents.fp32_contents.extend([1, 2])
    request.ClearField("raw_input_contents")
    assert output_of(channel.call("ModelInfer", request)) == [[2, 4]]
    request.parameters["contents"].string_param = "typed"
    typed = channel.call("ModelInfer", request)
    assert list(typed.outputs[0].contents.fp32_contents) == [2, 4]
    assert not typed.raw_output_contents


def test_outputs_are_chosen_and_classified(channel: Channel) -> None:
    request = infer_request("both", *ONE_ROW)
    request.outputs.add(name="SUM").parameters["classification"].int64_param = 1
    answer = channel.call("ModelInfer", request)
    assert [output.name for output in answer.outputs] == ["SUM"]
    assert answer.raw_output_contents[0] == b"\x0a\0\0\0" + b"4.000000:1"


def test_texts_travel_with_their_lengths(channel: Channel) -> None:
    request = infer_request("texts")
    request.inputs.add(name="x", datatype="BYTES", shape=[2, 1])
    request.raw_input_contents.append(b"\x02\0\0\0\xc3\xa9\0\0\0\0")
    answer = channel.call("ModelInfer", request)
    assert answer.raw_output_contents[0] == b"\x02\0\0\0\xc3\xa9\0\0\0\0"


def test_a_client_that_goes_while_it_is_answered_is_no_error(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """grpcio says that it is one if it hears of it late, which no test can have it do."""
    log = logging.getLogger("grpc._cython.cygrpc")
    log.error("ExecuteBatchError raised in core by servicer method [/inference.GRPCInferenceService/ModelInfer]")
    log.error("something else: %s", server.grpc)
    assert [record.getMessage() for record in caplog.records] == [f"something else: {server.grpc}"]


def test_a_large_request_goes_through(channel: Channel) -> None:
    rows = np.arange(64_000, dtype=np.float32).reshape(-1, 2)
    request = infer_request("both", ("a", rows), ("b", rows), model_version="1")
    with refused(StatusCode.INVALID_ARGUMENT):  # over max_batch_size, told after the cut
        channel.call("ModelInfer", request)


def _empty(name: str) -> Any:
    return request_class(INFERENCE, name)()


# --- everything else -----------------------------------------------------------------------------------


def test_every_method_of_the_service_is_served(channel: Channel) -> None:
    """What is off says so in its own words; nothing is "Method not found!"."""
    for name in method_names(INFERENCE):
        if name == "ModelStreamInfer":
            continue
        call = channel.method(name).future(_empty(name), timeout=20)
        assert "Method not found" not in (call.details() or "")
        assert call.code() not in (StatusCode.UNKNOWN, StatusCode.DEADLINE_EXCEEDED)


def test_what_is_off_says_so_as_triton_does(channel: Channel) -> None:
    for kind in ("System", "Cuda"):
        with refused(StatusCode.UNIMPLEMENTED) as told:
            channel.ask(f"{kind}SharedMemoryStatus")
        assert "shared memory is disabled" in told.details


def test_metadata_has_the_protocols_properties_field(channel: Channel) -> None:
    metadata = channel.ask("ModelMetadata", name="both")
    assert [(one.name, one.datatype, list(one.shape)) for one in metadata.inputs] == [
        ("a", "FP32", [-1, 2]),
        ("b", "FP32", [-1, 2]),
    ]
    assert dict(metadata.properties) == {}


@pytest.mark.parametrize("version", ["-1", "one", "٣", "9" * 30])
def test_versions_are_numbers(channel: Channel, version: str) -> None:
    for call in ("ModelMetadata", "ModelReady", "ModelConfig", "ModelStatistics"):
        with refused(StatusCode.INVALID_ARGUMENT) as told:
            channel.ask(call, name="both", version=version)
        assert "version" in told.details


def test_errors_have_their_status_code_and_hint(channel: Channel, server: Server) -> None:
    wrong = infer_request("both", ("a", TWO))
    with refused(StatusCode.INVALID_ARGUMENT) as told:
        channel.call("ModelInfer", wrong)
    assert told.trailers["taxiway-code"] == "unknown-tensor"
    with refused(StatusCode.NOT_FOUND) as told:
        channel.call("ModelInfer", infer_request("nobody"))
    assert b"served models: both" in told.trailers["taxiway-hint-bin"]
    with refused(StatusCode.INTERNAL) as told:
        channel.call("ModelInfer", infer_request("poison", ("x", np.asarray([[99]], np.int64))))
    assert 'taxiway_grpc_calls_total{method="ModelInfer",code="NOT_FOUND"}' in server.scrape()


def test_what_is_no_message_is_refused(channel: Channel) -> None:
    for name in ("ModelInfer", "ModelMetadata"):
        raw = channel.channel.unary_unary(f"/{INFERENCE}/{name}", None, None)
        with refused(StatusCode.INVALID_ARGUMENT) as told:
            raw(b"\xff\xff", timeout=20)
        assert "not an inference." in told.details or "not inference." in told.details


def test_compat_triton_has_tritons_statuses(models: Path) -> None:
    with serve(models, compat="triton") as server, connected(server.grpc) as channel:
        assert not channel.ask("ModelReady", name="nobody").ready
        with refused(StatusCode.UNAVAILABLE) as told:
            channel.ask("RepositoryModelLoad", model_name="both")
        assert not [key for key in told.trailers if key.startswith("taxiway")]
        assert channel.health("whatever") == "SERVING"


# --- what can be changed while it runs -----------------------------------------------------------------


def test_trace_settings_are_read_and_changed(channel: Channel) -> None:
    request = request_class(INFERENCE, "TraceSetting")
    assert list(channel.ask("TraceSetting").settings["trace_level"].value) == ["OFF"]
    change = request(model_name="both")
    change.settings["trace_rate"].value.append("7")
    assert list(channel.call("TraceSetting", change).settings["trace_rate"].value) == ["7"]
    assert list(channel.ask("TraceSetting").settings["trace_rate"].value) == ["1000"]
    take_back = request(model_name="both")
    take_back.settings["trace_rate"].SetInParent()
    assert list(channel.call("TraceSetting", take_back).settings["trace_rate"].value) == ["1000"]
    wrong = request()
    wrong.settings["trace_rate"].value.append("seldom")
    with refused(StatusCode.INVALID_ARGUMENT):
        channel.call("TraceSetting", wrong)


def test_log_settings_are_read_and_changed(channel: Channel) -> None:
    told = channel.ask("LogSettings").settings
    assert told["log_verbose_level"].uint32_param == 0
    assert isinstance(told["log_warning"].bool_param, bool)
    assert told["log_format"].string_param
    change = request_class(INFERENCE, "LogSettings")()
    change.settings["log_warning"].bool_param = False
    with refused(StatusCode.FAILED_PRECONDITION) as refusal:  # the logs of tests are pytest's
        channel.call("LogSettings", change)
    assert "configured by the program around it" in refusal.details


def test_models_are_loaded_and_unloaded(models: Path) -> None:
    with serve(models, models__control="explicit", models__load="both") as server, connected(server.grpc) as channel:
        watch = channel.method("Watch", "grpc.health.v1.Health")
        told = iter(watch(message_class("grpc.health.v1.HealthCheckRequest")(service="texts"), timeout=20))
        assert next(told).status == 3
        channel.ask("RepositoryModelLoad", model_name="texts")
        while (status := next(told).status) != 1:
            assert status == 2  # seen while it was loaded
        index = {one.name: one.state for one in channel.ask("RepositoryIndex").models}
        assert index == {"both": "READY", "texts": "READY", "poison": ""}
        channel.ask("RepositoryModelUnload", model_name="texts")
        assert next(told).status != 1
        with refused(StatusCode.NOT_FOUND):
            channel.call("ModelInfer", infer_request("texts"))
        unknown = request_class(INFERENCE, "RepositoryModelLoad")(model_name="texts")
        unknown.parameters["speed"].int64_param = 9
        with refused(StatusCode.INVALID_ARGUMENT) as refusal:
            channel.call("RepositoryModelLoad", unknown)
        assert "unrecognized load parameter 'speed'." in refusal.details
        with refused(StatusCode.UNIMPLEMENTED):
            channel.ask("RepositoryModelLoad", model_name="texts", repository_name="there")


def test_a_model_is_loaded_from_the_call_itself(models: Path) -> None:
    with serve(models, models__control="explicit", models__load="both") as server, connected(server.grpc) as channel:
        load = request_class(INFERENCE, "RepositoryModelLoad")(model_name="sent")
        load.parameters["config"].string_param = '{"backend": "onnxruntime"}'
        load.parameters["file:1/model.onnx"].bytes_param = (models / "both.onnx").read_bytes()
        channel.call("RepositoryModelLoad", load)
        assert output_of(channel.call("ModelInfer", infer_request("sent", *ONE_ROW))) == [[2, 4]]


# --- health --------------------------------------------------------------------------------------------


def test_health_has_a_service_per_model(channel: Channel) -> None:
    for service in ("", INFERENCE, "both", "both/1", "texts"):
        assert channel.health(service) == "SERVING"
    for service in ("nobody", "both/2", "both/", "/1", "both/1/1"):
        with refused(StatusCode.NOT_FOUND):
            channel.health(service)


def test_watch_tells_changes_until_the_server_leaves(models: Path) -> None:
    request = message_class("grpc.health.v1.HealthCheckRequest")
    told: dict[str, list[int]] = {}
    with serve(models) as server, connected(server.grpc) as channel:
        watch = channel.method("Watch", "grpc.health.v1.Health")
        calls = {name: iter(watch(request(service=name), timeout=20)) for name in ("", "both/1", "nobody")}
        told = {name: [next(call).status] for name, call in calls.items()}
        server.loop.call_soon_threadsafe(server.plane._accept, False)
        told[""].append(next(calls[""]).status)
        told["both/1"].append(next(calls["both/1"]).status)
        server.loop.call_soon_threadsafe(server.plane._accept, True)
        told[""].append(next(calls[""]).status)
        told["both/1"].append(next(calls["both/1"]).status)
        server.stop()
        for name, call in calls.items():
            told[name] += [answer.status for answer in call]  # until the server ends it
    assert told == {"": [1, 2, 1, 2], "both/1": [1, 2, 1, 2], "nobody": [3, 2, 3, 2]}


def test_watch_hears_by_itself_of_a_run_that_does_not_come_back(tmp_path: Path) -> None:
    request = message_class("grpc.health.v1.HealthCheckRequest")
    model = slow_models.sleeper(tmp_path / "slow.onnx")
    with (
        serve(model, execution__mode="thread", models__stall_timeout_s=0.3) as server,
        connected(server.grpc) as channel,
    ):
        watch = channel.method("Watch", "grpc.health.v1.Health")
        calls = [iter(watch(request(service=name), timeout=20)) for name in ("", "slow")]
        assert [next(call).status for call in calls] == [1, 1]
        slow = infer_request("slow", ("x", np.array([[100_000]], np.int64)))
        asked = channel.method("ModelInfer").future(slow, timeout=20)
        assert [next(call).status for call in calls] == [2, 2], "nobody else asks"
        assert output_of(asked.result(), dtype="<i8") == [[100_000]]
        assert [next(call).status for call in calls] == [1, 1]
        for call in calls:
            call.cancel()


# --- reflection ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", [REFLECTION, REFLECTION_ALPHA])
def test_a_reflection_client_learns_to_call(channel: Channel, service: str) -> None:
    """As grpcurl does: list the services, fetch a symbol's files, build the messages, call."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    question = message_class(f"{service.rpartition('.')[0]}.ServerReflectionRequest")
    questions = [
        question(list_services=""),
        question(file_containing_symbol=f"{INFERENCE}.ServerMetadata"),
        question(file_by_filename="nowhere.proto"),
        question(file_containing_symbol="no.such.Symbol"),
        question(all_extension_numbers_of_type="inference.ModelConfig"),
    ]
    answers = list(channel.method("ServerReflectionInfo", service)(iter(questions), timeout=20))
    listed = [one.name for one in answers[0].list_services_response.service]
    assert listed == [INFERENCE, "grpc.health.v1.Health", REFLECTION, REFLECTION_ALPHA]
    pool = descriptor_pool.DescriptorPool()
    files = answers[1].file_descriptor_response.file_descriptor_proto
    for one in reversed(files):
        pool.Add(descriptor_pb2.FileDescriptorProto.FromString(one))
    method = pool.FindServiceByName(INFERENCE).methods_by_name["ServerMetadata"]
    response = message_factory.GetMessageClass(method.output_type)
    call = channel.channel.unary_unary(f"/{INFERENCE}/ServerMetadata", None, response.FromString)
    assert call(b"", timeout=20).name == "taxiway"
    assert [answer.error_response.error_code for answer in answers[2:]] == [5, 5, 5]
    assert answers[2].original_request == questions[2]
    assert POOL is not pool


def test_reflection_can_be_off(models: Path) -> None:
    with serve(models, grpc__reflection=False) as server, connected(server.grpc) as channel:
        question = message_class("grpc.reflection.v1.ServerReflectionRequest")(list_services="")
        with refused(StatusCode.UNIMPLEMENTED):
            list(channel.method("ServerReflectionInfo", REFLECTION)(iter([question]), timeout=20))


# --- the port ------------------------------------------------------------------------------------------


def test_the_port_can_be_off(models: Path) -> None:
    with serve(models, grpc__enabled=False) as server:
        assert server.grpc == ""


def test_a_port_that_is_taken_is_told_so(models: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = f"cannot listen on 127.0.0.1 port {port}"
        with pytest.raises(FailedPrecondition, match=told) as caught, serve(models, grpc__port=port):
            pass
    assert "--grpc.port" in caught.value.hint


def test_another_server_on_the_port_is_not_joined(models: Path) -> None:
    with serve(models) as first:
        port = first.grpc.rpartition(":")[2]
        with pytest.raises(FailedPrecondition, match="cannot listen"), serve(models, grpc__port=int(port)):
            pass


def test_a_unix_socket_beside_the_port(models: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.sock"
    flags = {"grpc__unix_socket": str(path)}
    with serve(models, **flags) as server:
        with connected(f"unix:{path}") as channel:
            assert channel.health() == "SERVING"
        with pytest.raises(FailedPrecondition, match="another process listens on it"), serve(models, **flags):
            pass
        with connected(server.grpc) as channel:
            assert channel.health() == "SERVING"
    assert not path.exists()


def test_a_unix_socket_is_for_owner_and_group_asks_for_keys_and_never_speaks_tls(models: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.sock"
    pair = Authority(tmp_path / "ca.pem").issue(tmp_path / "server")
    flags = {"tls__certificate": str(pair.certificate), "tls__key": str(pair.key)}
    keys = write_keys(tmp_path / "keys.yaml", shop="infer")
    with serve(models, grpc__unix_socket=str(path), auth__keys_file=str(keys), **flags):
        assert path.stat().st_mode & 0o777 == 0o660
        with connected(f"unix:{path}") as channel:
            with refused(StatusCode.UNAUTHENTICATED):
                channel.call("ModelInfer", infer_request("both", *ONE_ROW))
            answer = channel.call("ModelInfer", infer_request("both", *ONE_ROW), metadata=[("x-api-key", "key-shop")])
            assert output_of(answer) == [[2, 4]]


@pytest.mark.parametrize("host", ["::1", "[::1]", "localhost"])
def test_other_addresses(models: Path, host: str) -> None:
    with serve(models, grpc__host=host) as server, connected(server.grpc) as channel:
        assert channel.health() == "SERVING"


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_answers_are_compressed_if_so_set(models: Path, compression: str) -> None:
    with serve(models, grpc__compression=compression) as server, connected(server.grpc) as channel:
        assert output_of(channel.call("ModelInfer", infer_request("both", *ONE_ROW))) == [[2, 4]]


# --- limits --------------------------------------------------------------------------------------------


def test_a_message_over_the_limit_is_refused(models: Path) -> None:
    with serve(models, limits__max_body_bytes=10_000) as server, connected(server.grpc) as channel:
        request = infer_request("both", *ONE_ROW)
        request.raw_input_contents[0] = bytes(20_000)
        with refused(StatusCode.RESOURCE_EXHAUSTED):
            channel.call("ModelInfer", request)
        assert channel.health() == "SERVING"


def test_metadata_over_the_limit_is_refused(models: Path) -> None:
    with serve(models, limits__max_header_bytes=8192) as server, connected(server.grpc) as channel:
        with refused(StatusCode.RESOURCE_EXHAUSTED):
            channel.call("ModelInfer", infer_request("both", *ONE_ROW), metadata=[("x", "y" * 9000)])
        assert channel.health() == "SERVING"


def test_connections_over_the_limit_are_refused(models: Path) -> None:
    with serve(models, limits__max_connections=2) as server:
        host, _, port = server.grpc.rpartition(":")
        with ExitStack() as opened:
            silent = [opened.enter_context(socket.create_connection((host, int(port)), PATIENCE_S)) for _ in range(4)]
            told = [_told_by(connection) for connection in silent]
        assert sorted(map(bool, told)) == [False, False, True, True], "a connection that is taken gets our SETTINGS"


def test_who_says_nothing_is_cut(models: Path, tmp_path: Path) -> None:
    pair = Authority(tmp_path / "ca.pem").issue(tmp_path / "server")
    flags = {"tls__certificate": str(pair.certificate), "tls__key": str(pair.key)}
    with serve(models, limits__header_timeout_s=0.1, **flags) as server:
        host, _, port = server.grpc.rpartition(":")
        with socket.create_connection((host, int(port)), PATIENCE_S) as silent:
            assert _told_by(silent) == b""


def _told_by(connection: socket.socket) -> bytes:
    """The first of what a server says by itself; nothing if it hangs up."""
    try:
        return connection.recv(1)
    except ConnectionError:
        return b""
