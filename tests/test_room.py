"""A GPU whose memory runs out: the batch is halved, it is said once, and the rows are the same."""

import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.config import PatchesConfig
from engine.inference import inference
from engine.room import Room
from engine.sam import Sam, decoder, masks
from tests.test_masks import scene, small_sam
from tests.test_sam import mask_decoder


def bounded(fits: int, sizes: list[int]):
    """Work that has room for so many items."""

    def work(part: slice) -> list[int]:
        sizes.append(part.stop - part.start)
        if sizes[-1] > fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return list(range(part.start, part.stop))

    return work


@given(st.integers(0, 50), st.integers(1, 40), st.integers(1, 40))
def test_every_item_is_made_once_and_in_order(count, size, fits):
    sizes: list[int] = []
    room = Room(size, "items")
    assert [item for made in room.over(count, bounded(fits, sizes)) for item in made] == list(range(count))
    failed = [number for number in sizes if number > fits]
    assert len(failed) <= size.bit_length()
    again: list[int] = []
    assert [item for made in room.over(count, bounded(fits, again)) for item in made] == list(range(count))
    assert not [number for number in again if number > fits]


def test_each_halving_is_said_once(caplog):
    with caplog.at_level(logging.WARNING):
        list(Room(32, "patches").over(100, bounded(10, [])))
    assert [record.getMessage() for record in caplog.records] == [
        f"out of GPU memory: {size} patches at a time from now on, with the same rows" for size in (16, 8)
    ]


def test_what_does_not_fit_alone_is_one_sentence():
    with pytest.raises(RuntimeError, match="the GPU has no room for 1 of the patches: free it of other work, or take a smaller model"):
        list(Room(4, "patches").over(9, bounded(0, [])))


def test_masks_are_the_same_when_memory_runs_out_between_prompts(monkeypatch):
    torch.manual_seed(0)
    quick = decoder.MaskDecoder(mask_decoder(32).eval())
    given_ = torch.randn(1, 32, 6, 9), torch.randn(1, 32, 6, 9), torch.randn(11, 2, 32)
    with torch.inference_mode():
        expected = [torch.cat(part) for part in zip(*quick.drawn(*given_), strict=True)]
        seen = quick.seen

        def small(image, places, prompts, which):
            if len(prompts) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return seen(image, places, prompts, which)

        monkeypatch.setattr(quick, "seen", small)
        found = [torch.cat(part) for part in zip(*quick.drawn(*given_), strict=True)]
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_masks_are_the_same_when_memory_runs_out_while_they_are_measured(monkeypatch):
    image, settings = scene(3, 120, 160), {"points_per_side": 6, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    with inference():
        expected = masks.AutomaticMasks(masks.quicken(small_sam()), **settings).regions(image)
    enlarged = masks.enlarged

    def small(logits, *sizes):
        if len(logits) > 6:
            raise torch.OutOfMemoryError
        return enlarged(logits, *sizes)

    monkeypatch.setattr(masks, "enlarged", small)
    with inference():
        found = masks.AutomaticMasks(masks.quicken(small_sam()), **settings).regions(image)
    for name in ("boxes", "areas", "iou_preds", "stability_score"):
        assert torch.allclose(torch.as_tensor(found[name]).float(), torch.as_tensor(expected[name]).float(), atol=1e-5)


def test_a_frame_for_which_there_is_no_room_is_one_sentence(monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError

    propose = Sam(small_sam(), PatchesConfig(proposer="sam", checkpoint="given", points_per_side=4))
    monkeypatch.setattr(propose.generator, "regions", full)
    with pytest.raises(RuntimeError, match="the GPU has no room for 1 of the frames"):
        propose(scene(1, 64, 64), "v@0")
