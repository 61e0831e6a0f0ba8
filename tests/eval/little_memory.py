"""Attacks a network with a wide layer in a process that may have little more memory than it has already."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from attacks.pgd import PGD
from attacks.threat import ThreatModel
from eval.batches import Batch, shortage
from eval.bench import Bench, Unit
from eval.clean import clean_pass
from eval.craft import craft
from eval.data.samples import ArrayStore, Samples
from models.classifier import Classifier

_N = 256
_MORE = 64 << 20  # bytes; the layer has 51 MB for 256 images, and is there several times


def _main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 50_000), nn.ReLU(), nn.Linear(50_000, 10))
    classifier = Classifier(network, name="net", input_shape=(1, 8, 8), num_classes=10)
    pixels, device = torch.rand(_N, 1, 8, 8), torch.device("cpu")
    labels = classifier(pixels).argmax(1).numpy()
    ids, classes = np.array([f"test/{i:05}" for i in range(_N)]), tuple("0123456789")
    samples = Samples(ids, labels, classes, ArrayStore(pixels.numpy()), np.arange(_N))
    clean = {"net": clean_pass(classifier, samples, 4, device)}
    unit = Unit("net", "pgd", PGD(steps=3, early_stop=True), "0.001", ThreatModel("linf", 0.001), np.arange(_N))

    def attacked(batch: Batch) -> pd.DataFrame:
        bench = Bench(
            samples, {"net": classifier}, clean, device, 0, "untargeted", 1, False, {}, 0, batches={"net": batch}
        )
        return pd.DataFrame(craft(bench, unit, lambda _: None)[0]).drop(columns="seconds")

    whole = attacked(Batch("net", 4))
    has = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (has + _MORE, resource.RLIM_INFINITY))
    raised = ""
    try:
        torch.autograd.grad(classifier(pixels.requires_grad_()).sum(), pixels)
    except RuntimeError as error:
        raised = shortage(error)
    batch = Batch("net", _N)
    rows = attacked(batch)
    same = ["sample", "success", "success_8bit", "adv_pred", "forwards", "backwards"]
    print(
        json.dumps(
            {
                "raised": raised,
                "errors": sorted(set(rows["error"])),
                "size": batch.size,
                "same": bool(rows[same].equals(whole[same])),
            }
        )
    )


if __name__ == "__main__":
    _main()
