"""methods/codecs.md C.1: the example, the invariant, and taking refused messages back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.codecs import manifest_of, seeded
from torch import Tensor

from hocket.core.payload import Payload
from hocket.core.submodel import ChannelRule, SubmodelSpec
from hocket.errors import NotFinite
from hocket.learn.codecs import Codec, Fp16, Int8, Raw, TopK
from hocket.learn.codecs.feedback import ErrorFeedback
from hocket.learn.codecs.payload import decode_payload

MANIFEST = manifest_of((1024,))
TOP_1 = TopK(ratio=1 / 1024)


def gradient(*values: float) -> Tensor:
    """The values, and zeros up to the size from which codecs are used."""
    return torch.tensor(values + (0.0,) * (1024 - len(values)))


def first_two(payload: Payload) -> list[float]:
    return decode_payload(payload, MANIFEST)[:2].tolist()


def test_the_published_example() -> None:
    feedback = ErrorFeedback()
    g = gradient(1.0, 0.9)

    first = feedback.compress(g, MANIFEST, TOP_1, seeded())
    second = feedback.compress(g, MANIFEST, TOP_1, seeded())

    assert first_two(first) == [1.0, 0.0]
    assert first_two(second) == pytest.approx([0.0, 1.8])
    assert feedback.residual is not None
    assert feedback.residual[:2].tolist() == pytest.approx([1.0, 0.0])


def test_a_refused_message_is_sent_with_the_next() -> None:
    feedback = ErrorFeedback()
    feedback.compress(gradient(1.0, 0.9), MANIFEST, TOP_1, seeded())

    feedback.put_back()
    feedback.put_back()  # once only
    again = feedback.compress(gradient(0.5, 0.0), MANIFEST, TOP_1, seeded())

    assert first_two(again) == [1.5, 0.0]


def test_nothing_is_taken_back_before_anything_was_sent() -> None:
    feedback = ErrorFeedback()
    feedback.put_back()
    assert feedback.residual is None


@settings(max_examples=30)
@given(
    st.sampled_from([Raw(), Fp16(), Int8(), TopK(ratio=0.02), TopK(ratio=0.5)]),
    st.lists(st.booleans(), min_size=1, max_size=12),
    st.integers(0, 2**32),
)
def test_what_arrived_and_the_residual_are_what_went_in(
    codec: Codec, accepted: list[bool], seed: int
) -> None:
    manifest = manifest_of((40, 50), (30,))
    generator = seeded(seed)
    feedback = ErrorFeedback()
    given_in = torch.zeros(2030, dtype=torch.float64)
    arrived = torch.zeros(2030, dtype=torch.float64)

    for is_accepted in accepted:
        delta = torch.randn(2030, generator=generator) * 0.1
        given_in += delta
        payload = feedback.compress(delta, manifest, codec, generator)
        if is_accepted:
            arrived += decode_payload(payload, manifest)
        else:
            feedback.put_back()

    residual = torch.zeros(2030) if feedback.residual is None else feedback.residual
    assert (arrived + residual - given_in).abs().max().item() <= 1e-5


def test_what_a_half_clamps_is_sent_later() -> None:
    feedback = ErrorFeedback()

    first = feedback.compress(gradient(1e5, 1.0), MANIFEST, Fp16(), seeded())
    second = feedback.compress(gradient(), MANIFEST, Fp16(), seeded())

    assert first_two(first) == [65504.0, 1.0]
    assert first_two(second) == [34496.0, 0.0]  # 100,000 - 65,504, which a half can hold


def test_a_lossless_codec_leaves_no_residual_and_sends_the_old_one() -> None:
    feedback = ErrorFeedback()
    feedback.compress(gradient(1.0, 0.9), MANIFEST, TOP_1, seeded())

    everything = feedback.compress(gradient(1.0, 0.0), MANIFEST, Raw(), seeded())

    assert first_two(everything) == pytest.approx([1.0, 0.9])
    assert feedback.residual is None


def test_switched_off_it_remembers_nothing() -> None:
    feedback = ErrorFeedback(enabled=False)
    g = gradient(1.0, 0.9)

    payloads = [feedback.compress(g, MANIFEST, TOP_1, seeded()) for _ in range(2)]
    feedback.put_back()

    assert [first_two(payload) for payload in payloads] == [[1.0, 0.0]] * 2
    assert feedback.residual is None


def test_reset_forgets_the_residual_and_the_message() -> None:
    feedback = ErrorFeedback()
    feedback.compress(gradient(1.0, 0.9), MANIFEST, TOP_1, seeded())

    feedback.reset()
    feedback.put_back()

    assert feedback.residual is None
    assert first_two(feedback.compress(gradient(0.1), MANIFEST, TOP_1, seeded())) == [
        pytest.approx(0.1),
        0.0,
    ]


def test_a_residual_is_not_applied_to_another_part_of_the_model() -> None:
    left = SubmodelSpec((0.5,), ChannelRule.RANDOM, seed=1)
    right = SubmodelSpec((0.5,), ChannelRule.RANDOM, seed=2)
    feedback = ErrorFeedback()
    g = gradient(1.0, 0.9)

    feedback.compress(g, MANIFEST, TOP_1, seeded(), left)
    same_sizes = feedback.compress(g, MANIFEST, TOP_1, seeded(), right)
    again = feedback.compress(g, MANIFEST, TOP_1, seeded(), right)
    other_sizes = manifest_of((32, 32))
    reshaped = feedback.compress(g, other_sizes, TOP_1, seeded(), right)

    assert first_two(same_sizes) == [1.0, 0.0]
    assert first_two(again) == pytest.approx([0.0, 1.8])
    assert decode_payload(reshaped, other_sizes)[:2].tolist() == [1.0, 0.0]


def test_a_residual_can_be_carried_over_a_restart() -> None:
    before = ErrorFeedback()
    before.compress(gradient(1.0, 0.9), MANIFEST, TOP_1, seeded())

    after = ErrorFeedback(residual=before.residual, part=before.part)

    assert first_two(after.compress(gradient(1.0, 0.9), MANIFEST, TOP_1, seeded())) == (
        pytest.approx([0.0, 1.8])
    )


@pytest.mark.parametrize("codec", [TOP_1, Raw()], ids=["lossy", "lossless"])
def test_a_message_of_an_earlier_life_can_be_taken_back(codec: Codec) -> None:
    left = SubmodelSpec((0.5,))
    before = ErrorFeedback()
    message = before.compress(gradient(1.0, 0.9), MANIFEST, codec, seeded(), left)

    after = ErrorFeedback(residual=before.residual, part=before.part)
    after.resume(message, MANIFEST, left)
    after.put_back()
    after.put_back()  # once only

    assert after.residual is not None
    assert after.residual[:2].tolist() == pytest.approx([1.0, 0.9])
    following = after.compress(gradient(0.0, 0.2), MANIFEST, TOP_1, seeded(), left)
    assert first_two(following) == pytest.approx([0.0, 1.1])


def test_switched_off_it_takes_no_message_of_an_earlier_life_back() -> None:
    message = ErrorFeedback().compress(gradient(1.0), MANIFEST, TOP_1, seeded())
    off = ErrorFeedback(enabled=False)
    off.resume(message, MANIFEST)
    off.put_back()
    assert off.residual is None


def test_a_delta_that_cannot_be_sent_leaves_the_residual_alone() -> None:
    feedback = ErrorFeedback()
    feedback.compress(gradient(1.0, 0.9), MANIFEST, TOP_1, seeded())

    with pytest.raises(NotFinite, match="layer0"):
        feedback.compress(gradient(torch.nan), MANIFEST, TOP_1, seeded())

    assert feedback.residual is not None
    assert feedback.residual[:2].tolist() == pytest.approx([0.0, 0.9])
