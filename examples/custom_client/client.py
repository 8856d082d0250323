"""A device of one's own, from the contract alone: gRPC, stubs generated from protos/, and numpy.

It joins the registry, asks for the task, pulls the model, trains it on its own data, pushes what
has changed and reads what became of it. README.md says how to run it, docs/protocol.md what each
message means.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import TypeVar

import grpc
import numpy as np
from numpy.typing import NDArray

from hocket.v1 import aggregator_pb2 as agg
from hocket.v1 import aggregator_pb2_grpc, registry_pb2_grpc, types_pb2
from hocket.v1 import registry_pb2 as reg

UNARY_S, TRANSFER_S = 10.0, 120.0  # deadlines
ATTEMPTS = 5
KEEPALIVE = (("grpc.keepalive_time_ms", 20_000), ("grpc.keepalive_timeout_ms", 10_000))
PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

T = TypeVar("T")
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


class Softmax:
    """Softmax regression: scores = inputs @ weight.T + bias. All of it float32."""

    def __init__(self, weight: Floats, bias: Floats) -> None:
        self.weight, self.bias = weight, bias

    def loss(self, inputs: Floats, labels: Ints) -> float:
        """Mean cross-entropy."""
        return float(-np.log(self._shares(inputs)[np.arange(len(labels)), labels]).mean())

    def gradient(self, inputs: Floats, labels: Ints) -> tuple[Floats, Floats]:
        """Of the mean cross-entropy, by weight and bias."""
        error = self._shares(inputs)
        error[np.arange(len(labels)), labels] -= 1.0
        error /= len(labels)
        return error.T @ inputs, error.sum(axis=0)

    def _shares(self, inputs: Floats) -> Floats:
        scores = inputs @ self.weight.T + self.bias
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares: Floats = powers / powers.sum(axis=1, keepdims=True)
        return shares


def train(model: Softmax, inputs: Floats, labels: Ints, how: agg.Training) -> tuple[int, float]:
    """Stochastic gradient descent as the task says; steps taken, and the last epoch's mean loss."""
    rng = np.random.default_rng()
    values = [model.weight, model.bias]
    velocities = [np.zeros_like(value) for value in values]
    steps, losses = 0, [0.0]
    for _ in range(how.local_epochs):
        losses = []
        order = rng.permutation(len(labels))
        for start in range(0, len(order), how.batch_size):
            batch = order[start : start + how.batch_size]
            losses.append(model.loss(inputs[batch], labels[batch]))
            gradients = model.gradient(inputs[batch], labels[batch])
            norm = np.sqrt(sum(float((g * g).sum()) for g in gradients))
            limit = how.gradient_clip_norm or norm
            shrink = np.float32(min(1.0, limit / norm) if norm else 1.0)
            for at, gradient in enumerate(gradients):  # torch's SGD, in place
                velocities[at] *= np.float32(how.momentum)
                velocities[at] += shrink * gradient + np.float32(how.weight_decay) * values[at]
                values[at] -= np.float32(how.learning_rate) * velocities[at]
            steps += 1
    return steps, float(np.mean(losses))


def check_model(manifest: types_pb2.Manifest, inputs: Floats, labels: Ints) -> None:
    """Stop unless the model is what this client can train: one linear layer for these inputs."""
    shapes = [tuple(tensor.shape) for tensor in manifest.tensors]
    classes = shapes[0][0] if shapes and shapes[0] else 0
    if shapes != [(classes, inputs.shape[1]), (classes,)] or labels.max() >= classes:
        sys.exit(
            f"this client trains one linear layer on {inputs.shape[1]} inputs and "
            f"{labels.max() + 1} classes; the task's model has tensors of shapes {shapes}"
        )


def pull(
    stub: aggregator_pb2_grpc.AggregatorServiceStub,
    caller: types_pb2.Caller,
    manifest: types_pb2.Manifest,
) -> tuple[int, Floats]:
    """The newest version's number and its values (n,), in the order of the manifest."""
    request = agg.PullModelRequest(caller=caller, for_training=True)
    answers = stub.PullModel(request, timeout=TRANSFER_S)
    header = next(answers).header
    size = sum(int(np.prod(tensor.shape)) for tensor in manifest.tensors)
    names = [tensor.name for tensor in header.payload.tensors]
    if (
        names != [tensor.name for tensor in manifest.tensors]
        or header.payload.wire_bytes != 4 * size
    ):
        sys.exit("the model that came is not the one that the manifest describes")
    body = bytearray()
    for answer in answers:
        if answer.chunk.offset != len(body):
            sys.exit(f"a chunk for offset {answer.chunk.offset} came where {len(body)} was next")
        body += answer.chunk.data  # its checksum may be verified with any xxh3 library
    if len(body) != header.payload.wire_bytes:
        sys.exit(f"the model ended at byte {len(body)} of {header.payload.wire_bytes}")
    return header.version, np.frombuffer(body, "<f4").astype(np.float32)


def raw_payload(manifest: types_pb2.Manifest, num_bytes: int) -> types_pb2.PayloadHeader:
    """The header of a delta sent as plain float32. Checksums are optional; here there are none."""
    tensors = [
        types_pb2.TensorHeader(
            name=tensor.name,
            shape=tensor.shape,
            codec=types_pb2.CODEC_RAW,
            encoded_bytes=4 * int(np.prod(tensor.shape)),
        )
        for tensor in manifest.tensors
    ]
    return types_pb2.PayloadHeader(
        tensors=tensors, packing=types_pb2.PACKING_NONE, wire_bytes=num_bytes
    )


def push(
    stub: aggregator_pb2_grpc.AggregatorServiceStub,
    header: agg.PushHeader,
    body: bytes,
    chunk_bytes: int,
) -> agg.Outcome:
    """Offer the update: the header, chunks from where the aggregator says; get the outcome."""
    go_ahead: SimpleQueue[int | None] = SimpleQueue()

    def requests() -> Iterator[agg.PushUpdateRequest]:
        yield agg.PushUpdateRequest(header=header)
        offset = go_ahead.get()
        if offset is None:
            return
        for start in range(offset, len(body), chunk_bytes):
            data = body[start : start + chunk_bytes]
            yield agg.PushUpdateRequest(chunk=types_pb2.Chunk(offset=start, data=data))

    try:
        for answer in stub.PushUpdate(requests(), timeout=TRANSFER_S):
            if answer.WhichOneof("answer") == "outcome":
                return answer.outcome
            go_ahead.put(answer.resume_offset)
    finally:
        go_ahead.put(None)  # lets gRPC's sending thread end
    sys.exit("the push ended without an outcome")


def persistently(call: Callable[[], T]) -> T:
    """Call again while the service cannot be reached, waiting longer each time, with jitter.

    A push may be repeated like this too: the same update_id is applied once, and goes on from the
    byte at which it broke off.
    """
    for attempt in range(ATTEMPTS - 1):
        try:
            return call()
        except grpc.RpcError as error:
            if error.code() not in PASSING:
                raise
            time.sleep(random.uniform(0.0, 0.5 * 2**attempt))  # noqa: S311 - jitter needs no secret
    return call()


def told(outcome: agg.Outcome) -> str:
    """What became of an update, in words."""
    applied, buffered, dropped = outcome.applied, outcome.buffered, outcome.dropped
    match outcome.WhichOneof("kind"):
        case "applied":
            return (
                f"applied as version {applied.version} with weight {applied.weight:.4f} "
                f"at staleness tau {applied.tau}"
            )
        case "buffered":
            return (
                f"buffered for version {buffered.version}, {buffered.fill} of {buffered.goal}, "
                f"at staleness tau {buffered.tau}"
            )
        case "dropped":
            return f"dropped, {agg.DropReason.Name(dropped.reason)}: {dropped.message}"
    return "unknown: these stubs are older than the aggregator"


def reason(error: grpc.RpcError) -> str:
    """The stable name of an error: `reason` of the ErrorInfo in its google.rpc.Status.

    Read from the raw message, since google.rpc is not among our stubs: Status.details (3) are
    Any messages, whose value (2) is here an ErrorInfo, whose reason is field 1.
    """
    for key, status in error.trailing_metadata():
        if key == "grpc-status-details-bin":
            for detail in texts(status, 3):
                if b"google.rpc.ErrorInfo" in detail:
                    return next(texts(next(texts(detail, 2)), 1)).decode()
    return str(error.code().name)


def texts(message: bytes, wanted: int) -> Iterator[bytes]:
    """Every length-delimited field of this number in a protobuf message."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            octet = message[at]
            at += 1
            value |= (octet & 0x7F) << shift
            shift += 7
            if octet < 0x80:
                return value

    while at < len(message):
        number, kind = divmod(varint(), 8)
        length = varint()  # or, for a plain number, the number itself
        if kind == 2:
            if number == wanted:
                yield message[at : at + length]
            at += length


def say(line: str) -> None:
    """Tell the person at the terminal."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def one_round(
    stub: aggregator_pb2_grpc.AggregatorServiceStub,
    caller: types_pb2.Caller,
    task: agg.GetTaskResponse,
    inputs: Floats,
    labels: Ints,
) -> None:
    """Pull, train, push."""
    version, base = persistently(lambda: pull(stub, caller, task.manifest))
    say(f"pulled version {version}: {base.nbytes} bytes")
    began = time.monotonic()
    values = base.copy()
    classes = task.manifest.tensors[1].shape[0]
    model = Softmax(values[:-classes].reshape(classes, -1), values[-classes:])
    before = model.loss(inputs, labels)
    steps, last_loss = train(model, inputs, labels, task.training)
    say(f"trained {steps} steps: loss {before:.3f} -> {model.loss(inputs, labels):.3f}")
    body = (values - base).astype("<f4").tobytes()
    header = agg.PushHeader(
        caller=caller,
        update_id=uuid.uuid4().hex,
        base_version=version,
        num_examples=len(labels),
        num_steps=steps,
        learning_rate=task.training.learning_rate,
        train_loss=last_loss,
        train_s=time.monotonic() - began,
        payload=raw_payload(task.manifest, len(body)),
    )
    outcome = persistently(lambda: push(stub, header, body, task.chunk_bytes))
    say(f"pushed {len(body)} bytes")
    say(f"acknowledged: {told(outcome)}")


def main() -> int:
    """Exit status 0 once all updates are acknowledged, 1 when something is refused."""
    options = arguments()
    with np.load(options.data) as shard:
        inputs, labels = shard["inputs"].astype(np.float32), shard["labels"].astype(np.int64)
    with (
        grpc.insecure_channel(options.registry, KEEPALIVE) as to_registry,
        grpc.insecure_channel(options.aggregator, KEEPALIVE) as to_aggregator,
    ):
        registry = registry_pb2_grpc.RegistryServiceStub(to_registry)
        aggregator = aggregator_pb2_grpc.AggregatorServiceStub(to_aggregator)
        try:
            work(options, registry, aggregator, inputs, labels)
        except grpc.RpcError as error:
            sys.stderr.write(f"refused: {reason(error)}: {error.details()}\n")
            return 1
    return 0


def work(
    options: argparse.Namespace,
    registry: registry_pb2_grpc.RegistryServiceStub,
    aggregator: aggregator_pb2_grpc.AggregatorServiceStub,
    inputs: Floats,
    labels: Ints,
) -> None:
    """From joining to leaving."""
    joined = registry.Join(
        reg.JoinRequest(
            device_id=options.name,
            capability=types_pb2.Capability(
                processor_share=1.0, energy_share=1.0, available=True, num_examples=len(labels)
            ),
            labels={"kind": "custom-client"},
        ),
        timeout=UNARY_S,
    )
    caller = types_pb2.Caller(device_id=joined.device_id, incarnation=joined.incarnation)
    say(f"joined as {caller.device_id}, incarnation {caller.incarnation}")
    try:
        task = aggregator.GetTask(agg.GetTaskRequest(), timeout=UNARY_S)
        say(f"task {task.name}, manifest {task.manifest.digest}")
        check_model(task.manifest, inputs, labels)
        for _ in range(options.rounds):
            one_round(aggregator, caller, task, inputs, labels)
            registry.Heartbeat(reg.HeartbeatRequest(caller=caller), timeout=UNARY_S)
    finally:
        registry.Leave(reg.LeaveRequest(caller=caller), timeout=UNARY_S)
        say("left")


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description="A Hocket device in numpy.")
    parser.add_argument("data", help=".npz with inputs (N, F) and labels (N,)")
    parser.add_argument("--registry", default="127.0.0.1:50051", help="host:port")
    parser.add_argument("--aggregator", default="127.0.0.1:50052", help="host:port")
    parser.add_argument("--name", default="numpy-client", help="device id to join with")
    parser.add_argument("--rounds", type=int, default=1, help="updates to push, one by one")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
