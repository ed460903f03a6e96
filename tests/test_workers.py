"""Processes that share a training by gloo, without Ray: the curve is that of the declared workers, whoever of them is there."""

import os
import pickle
import socket

import pytest
import torch

from engine import pretrain
from tests.test_pretrain import CONFIG, Recorder, Stripes

IMAGES = 11  # the last batch of an epoch has three, of which two workers leave one out
TWO = CONFIG.model_copy(update={"workers": 2, "epochs": 4, "checkpoint_every": 2, "clip": 1.0, "ema": 0.9})
HALF = "step-6"  # the checkpoint of two epochs


def trained(folder, resume=None):
    """Losses by step, and the weights in the end."""
    folder.mkdir(exist_ok=True)
    recorder = Recorder(folder)
    model = pretrain.fit(Stripes(), IMAGES, TWO, resume=resume, report=recorder)
    return recorder.of_steps, [weight.detach().numpy() for weight in model.state_dict().values()]


def on_gloo(rank, port, threads, folder):
    """One of two processes: the whole training, and the second half of the one that was alone until then; what they come to as a file."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(threads)  # in how many parts a processor sums
    found = trained(folder / "shared"), trained(folder / "back", folder / "alone" / HALF)
    (folder / f"of-{rank}").write_bytes(pickle.dumps(found))
    torch.distributed.destroy_process_group()


def same(one, other):
    """Losses to the rounding of their sum in float64, weights to the bit."""
    losses = one[0] == pytest.approx(other[0], rel=1e-12, abs=0)
    return losses and all((a == b).all() for a, b in zip(one[1], other[1], strict=True))


@pytest.mark.slow
def test_two_processes_one_that_stands_in_for_both_and_those_that_take_turns_train_the_same_model_to_the_bit(tmp_path):
    """One half of two sums is the same number whoever adds them up; clipped, with a mean of weights, and with an image left out."""
    alone = trained(tmp_path / "alone")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(on_gloo, (port, torch.get_num_threads(), tmp_path), nprocs=2)
    first, second = (pickle.loads((tmp_path / f"of-{rank}").read_bytes()) for rank in (0, 1))
    assert list(alone[0]) == list(range(1, 13))
    rest = {step: loss for step, loss in alone[0].items() if step > 6}, alone[1]
    for shared, back in (first, second):
        assert same(shared, alone)
        assert same(back, rest)
    assert same(trained(tmp_path / "left", tmp_path / "shared" / HALF), rest)
