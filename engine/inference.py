"""How every model that is not trained runs: without gradients, and with sums that do not depend on the machine's processors."""

from collections.abc import Iterator
from contextlib import contextmanager

from engine.precision import Precision


@contextmanager
def inference(precision: Precision = "float32") -> Iterator[None]:
    """No gradients, and one thread: how a sum is shared out over threads shows in its last bits, and a job scales by actors."""
    import torch  # not above: the settings of a job are checked before anything heavy is loaded

    from engine import devices

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        # By default cuDNN rounds the numbers of a convolution to TF32, in float32 too.
        with (
            torch.inference_mode(),
            torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
            torch.autocast(devices.kind(), torch.bfloat16, enabled=precision == "bfloat16"),
        ):
            yield
    finally:
        torch.set_num_threads(threads)
